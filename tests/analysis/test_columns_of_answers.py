"""The columns of every answer's `as_table()`, as they were before estimates became one object."""

from __future__ import annotations

import pyarrow as pa
import pytest
from helpers.trial_tables import table, trials

from raybench.analysis.batch import batch
from raybench.analysis.compare import compare
from raybench.analysis.devices import generation
from raybench.analysis.efficiency import efficiency
from raybench.analysis.precision import precision
from raybench.analysis.scaling import scaling
from raybench.analysis.study2017.figures import paper

SERIES = (
    "model precision batch_size engine engine_version engine_options device inflight transfers "
    "memory_limit_bytes preset simulated environment_id method_version inputs load instances mps "
    "balancer power_limit_w prompt context new_tokens pipeline cores"
)
COLUMNS = {
    scaling: f"{SERIES} workers point_id status reason trials items_per_s items_per_s_lo "
    "items_per_s_hi interval base_workers speedup speedup_lo speedup_hi efficiency efficiency_lo "
    "efficiency_hi latency_p50_ms latency_p90_ms latency_p99_ms over_fp32 over_fp32_lo "
    "over_fp32_hi fidelity_sqnr_db verdict flags marks mode imbalance slowest_worker "
    "slowest_share solo_devices solo_items_per_s solo_speedup solo_speedup_lo solo_speedup_hi "
    "interference_loss interference_loss_lo interference_loss_hi bound_by quantised_macs_frac reduced_ops "
    "device_use builds builds_sd trials_sd within_sd",
    precision: f"{SERIES} workers dialect status reason trials items_per_s items_per_s_lo "
    "items_per_s_hi interval ratio ratio_lo ratio_hi peak_ratio fidelity_sqnr_db "
    "fidelity_cosine verdict flags marks quantised_macs_frac",
    batch: f"{SERIES} workers batch_size status reason trials items_per_s items_per_s_lo "
    "items_per_s_hi interval share_of_best latency_p50_ms latency_p99_ms gpu_mem_peak_mib "
    "items_per_j knee verdict flags marks",
    generation: f"{SERIES} workers name base status reason trials items_per_s items_per_s_lo "
    "items_per_s_hi interval ratio ratio_lo ratio_hi latency_p50_ms latency_p99_ms items_per_j "
    "verdict flags marks",
    efficiency: f"{SERIES} workers trials items_per_s items_per_s_lo items_per_s_hi "
    "gflops_per_item achieved_tflops chip peak_tflops peak_source mfu mfu_clock "
    "sm_clock_mhz_mean peak_clock_mhz avg_power_w energy_source items_per_j j_per_item "
    "usd_per_device_hour usd_per_million_items verdict flags marks energy_error_rel "
    "device_use ops_per_byte ops_per_byte_measured memory_peak_gb_per_s",
    compare: f"{SERIES} workers outcome note a a_lo a_hi a_interval a_trials a_verdict b b_lo "
    "b_hi b_interval b_trials b_verdict ratio ratio_lo ratio_hi detectable clock_ratio "
    "clock_explains a_flags b_flags marks",
    paper: "name statement verdict reason marks",
}  # fmt: skip
INTEGERS = {
    "batch_size", "inflight", "memory_limit_bytes", "method_version", "workers", "trials",
    "base_workers", "solo_devices", "instances", "cores", "a_trials", "b_trials",
    "builds", "prompt", "context", "new_tokens",
}  # fmt: skip
BOOLEANS = {"transfers", "simulated", "mps", "knee", "clock_explains", "ops_per_byte_measured"}
LISTS = {"flags", "marks", "bound_by", "reduced_ops", "a_flags", "b_flags"}


@pytest.mark.parametrize("answer", COLUMNS, ids=lambda answer: answer.__name__)
def test_an_answers_table_has_the_columns_that_it_always_had(answer):
    rows = table(*trials([1000.0, 1001.0]))
    made = answer(rows, rows) if answer is compare else answer(rows)
    schema = made.as_table().schema
    assert " ".join(schema.names) == COLUMNS[answer]
    for field in schema:
        assert pa.types.is_integer(field.type) == (field.name in INTEGERS)
        assert pa.types.is_boolean(field.type) == (field.name in BOOLEANS)
        assert pa.types.is_list(field.type) == (field.name in LISTS)
        if field.name.endswith(("_lo", "_hi")):
            assert field.type == pa.float64()

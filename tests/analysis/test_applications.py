"""What applications are bound by: shares of the ceilings that gemm and copy measured, and the evidence."""

from __future__ import annotations

import pytest
from helpers.trial_tables import failed_trial, table, trials

from raybench.analysis.applications import applications
from raybench.analysis.efficiency import efficiency
from raybench.analysis.roofline import rooflines

CPU = {"device": "AMD EPYC", "device_kind": "cpu", "engine": "openvino", "precision": "fp32",
       "batch_size": 8, "inflight": 1}  # fmt: skip
GPU = {"device": "NVIDIA H200", "device_kind": "gpu", "precision": "fp16", "batch_size": 128}


def gemm(rate=55.0, spread=0.0, **row):
    rates = [rate * (1 + spread * k) for k in (-1, 0, 1)] if spread else [rate]
    made = {
        "model": "gemm",
        "gflops_per_item": 4.294967296,
        "point_id": f"gemm{rate}",
        **CPU,
        **row,
    }
    return trials(rates, **made)


def copy(rate=10_000.0, **row):
    point = f"copy{rate}{row.get('transfers')}"
    made = {"model": "copy", "point_id": point, **CPU, "batch_size": 128, **row}
    return trials([rate], **made)


def application(rate, spread=0.0, **row):
    rates = [rate * (1 + spread * k) for k in (-1, 0, 1)] if spread else [rate]
    needs = {"parameters": 25_000_000, "table_parameters": 0, "activations_per_item": 10_000_000,
             "input_bytes_per_item": 600_000, "output_bytes_per_item": 4000, "gflops_per_item": 8.0}  # fmt: skip
    return trials(rates, **{"model": "resnet50", "point_id": "r", **needs, **CPU, **row})


def only(*rows):
    (point,) = applications(table(*(one for each in rows for one in each))).points
    return point


def test_arithmetic_is_the_bound_from_75_percent_of_gemm_in_the_same_precision():
    point = only(gemm(), copy(), application(25.0))
    assert point.arithmetic_share.value == pytest.approx(25 * 8.0 / (55 * 4.294967296))
    assert point.bound_by == "arithmetic"
    assert "Arithmetic at 84.7 % of the 236 GFLOP/s of gemm in fp32" in point.evidence
    assert point.decide is None


def test_a_ceiling_in_another_precision_or_beside_another_number_of_workers_is_none():
    for other in ({"precision": "int8"}, {"workers": 2}, {"device": "Other"}):
        point = only(gemm(**other), application(25.0))
        assert point.arithmetic_share.value is None
        assert point.bound_by == "not determined"
        assert "experiment=applications" in point.decide


def test_an_application_without_counts_says_that_they_would_decide():
    point = only(gemm(), copy(), application(5.0, gflops_per_item=None, parameters=None))
    assert point.bound_by == "not determined"
    assert "rows lack them" in point.decide


def test_the_least_traffic_is_weights_without_tables_once_a_batch_and_what_crosses():
    row = {"table_parameters": 5_000_000}
    point = only(gemm(), copy(), application(20.0, **row))
    least = 20e6 * 4 / 8 + 604_000
    assert point.memory_share.value == pytest.approx(20.0 * least / (10_000 * 2**21))
    most = least + 2 * 4 * 10_000_000
    assert point.memory_share_most == pytest.approx(20.0 * most / (10_000 * 2**21))


def test_memory_is_the_bound_where_a_large_batch_needs_nearly_all_of_it():
    point = only(gemm(), copy(), application(180.0, parameters=200_000_000, gflops_per_item=0.2))
    assert point.bound_by == "memory"
    assert "memory at 86.3 to 155 %" in point.evidence
    assert "of the 21 GB/s of copy, read and written" in point.evidence


def test_traffic_that_caches_may_hold_does_not_show_that_memory_is_the_bound():
    point = only(gemm(), copy(), application(2500.0, parameters=14_000_000, gflops_per_item=0.02))
    assert point.memory_share.value > 0.75
    assert point.bound_by == "not determined"
    assert "which caches may hold" in point.decide


def test_where_only_the_traffic_between_layers_reaches_the_ceiling_nothing_is_determined():
    point = only(
        gemm(), copy(), application(8.0, activations_per_item=300_000_000, gflops_per_item=2.0)
    )
    assert point.memory_share.value < 0.75 < point.memory_share_most
    assert point.bound_by == "not determined"
    assert "counters of its traffic" in point.decide


def test_far_from_both_ceilings_the_time_of_layers_would_decide():
    point = only(gemm(), copy(), application(5.0))
    assert point.bound_by == "not determined"
    assert "results.layers=true" in point.decide


def test_where_one_ceiling_is_unknown_nothing_is_said_to_be_far_from_all():
    assert "Its share of memory would" in only(gemm(), application(5.0)).decide
    assert "Its share of arithmetic would" in only(copy(), application(5.0)).decide


def test_an_interval_that_reaches_75_percent_asks_for_more_trials():
    point = only(gemm(spread=0.02), application(22.2, spread=0.02))
    assert point.arithmetic_share.lo < 0.75 < point.arithmetic_share.hi
    assert point.bound_by == "not determined"
    assert "lies on both sides of 75 % of its ceiling" in point.decide


def test_single_trials_with_wide_intervals_determine_nothing():
    wide = {"items_per_s_lo": 15.0, "items_per_s_hi": 40.0}
    ceiling = gemm(items_per_s_lo=54.0, items_per_s_hi=56.0)
    point = only(ceiling, application(25.0, **wide))
    assert point.bound_by == "not determined"
    assert point.arithmetic_share.lo == pytest.approx(15 / 56 * 8 / 4.294967296)
    assert point.arithmetic_share.hi == pytest.approx(40 / 54 * 8 / 4.294967296)
    narrow = {"items_per_s_lo": 24.0, "items_per_s_hi": 26.0}
    assert only(ceiling, application(25.0, **narrow)).bound_by == "arithmetic"


def test_memory_is_measured_by_the_largest_batch_of_copy_which_caches_help_least():
    rows = (copy(rate=40_000.0, batch_size=8), copy(rate=10_000.0, batch_size=128))
    point = only(*rows, application(20.0))
    assert point.memory_share.value == only(copy(), application(20.0)).memory_share.value


def test_a_copy_that_another_point_exceeds_by_more_than_reading_explains_is_no_ceiling():
    reads = {
        "model": "decoder_125m_step",
        "point_id": "d",
        "parameters": 134_515_008,
        "weight_bytes": 538_060_032,
        "kv_cache_bytes": 23_592_960,
        "batch_size": 1,
    }
    slow = copy(rate=1700.0, engine="torch")
    answer = applications(table(*slow, *application(20.0, **reads), *application(20.0)))
    assert [point.memory_share.value for point in answer.points] == [None, None]
    assert "memory" not in {point.bound_by for point in answer.points}
    (said,) = (line for line in answer.missing if "copy" in line)
    assert (
        "copy by torch is no ceiling of memory: decoder_125m_step by openvino moves 3.2 times"
        in said
    )
    assert "model=copy batch_size=128 engine=..." in said
    # another engine's copy takes its place
    answer = applications(table(*slow, *copy(rate=8000.0), *application(20.0, **reads)))
    assert answer.points[0].memory_share.value == pytest.approx(0.671, abs=0.01)
    assert not answer.missing or "no ceiling" not in " ".join(answer.missing)
    # what caches may hold refutes nothing, and reading alone is somewhat faster
    small = {**reads, "parameters": 10_000_000, "weight_bytes": 40_000_000}
    (point,) = applications(table(*slow, *application(200.0, **small))).points
    assert point.memory_share.value > 1.5
    (point,) = applications(table(*slow, *application(8.0, **reads))).points
    assert 1 < point.memory_share.value < 1.5


def test_an_unstable_ceiling_is_named_and_no_mark_of_the_points():
    answer = applications(table(*gemm(verdict="unstable"), *copy(), *application(25.0)))
    assert answer.points[0].marks == ()
    assert answer.missing == (
        "No sound ceiling of arithmetic: gemm in fp32 is unstable, and so are the shares of it. Measure it "
        "again (rerun=unstable).",
    )


def test_the_link_of_a_gpu_is_what_copy_reaches_with_transfers():
    link = copy(rate=50_000.0, **{**GPU, "precision": "fp32", "transfers": True})
    memory = copy(rate=2e6, **{**GPU, "precision": "fp32", "transfers": False})
    point = only(link, memory, application(70_000.0, **GPU, transfers=True))
    assert point.link_share.value == pytest.approx(70_000 * 600_000 / (50_000 * 2**20))
    assert point.bound_by == "link"
    resident = only(link, memory, application(70_000.0, **GPU, transfers=False))
    assert resident.link_share.value is None


def test_a_ceiling_of_the_link_says_nothing_of_a_point_without_transfers():
    link = copy(rate=50_000.0, **{**GPU, "precision": "fp32", "transfers": True})
    assert (
        "Measure gemm and copy" in only(link, application(70_000.0, **GPU, transfers=False)).decide
    )


def test_what_telemetry_shows_comes_first():
    idle = {"flags": ["host_bound"], "host_idle_frac": 0.4}
    point = only(gemm(), copy(), application(5.0, **idle))
    assert point.bound_by == "host"
    assert "the device had nothing to do for 40 % of the time" in point.evidence.lower()


def test_a_device_that_waits_for_decoded_images_is_bound_by_decoding():
    row = {"pipeline": "jpeg", "cores": 2, "input_wait_frac": 0.3, "flags": ["host_bound"]}
    point = only(gemm(), copy(), application(5.0, **row))
    assert point.bound_by == "decoding"
    assert "for 30 % of the time for lack of decoded images" in point.evidence


def test_counters_that_say_otherwise_leave_it_undetermined():
    counters = {"gpu_dram_frac": 0.2, "gpu_sm_frac": 0.9, "gpu_tensor_frac": 0.3}
    memory = copy(rate=1000.0, **{**GPU, "precision": "fp32", "transfers": False})
    row = {**GPU, **counters, "transfers": False, "parameters": 500_000_000}
    point = only(memory, application(256.0, **row))
    assert point.memory_share.value > 0.75
    assert point.bound_by == "kernel latency"


def test_a_point_without_a_number_has_its_reason_and_open_loop_is_left_out():
    failed = failed_trial("unsupported", model="bert_base", point_id="b")
    answer = applications(
        table(
            *gemm(), *application(5.0), failed, *application(3.0, load="poisson(3)", point_id="o")
        )
    )
    assert [point.status for point in answer.points] == ["unsupported", "ok"]
    assert answer.points[0].reason == "Why."


def test_a_device_without_a_printed_peak_has_a_roofline_below_what_was_measured():
    rows = table(*gemm(), *copy(), *application(25.0), *gemm(rate=30.0, workers=2))
    (roof,) = rooflines(efficiency(rows).uses, applications(rows).measured).rooflines
    assert roof.measured
    assert roof.memory_gb_per_s == pytest.approx(20.97, abs=0.01)
    assert dict(roof.ceilings) == {"fp32": pytest.approx(0.2362, abs=1e-3)}
    (point,) = roof.points
    assert point.use.series.model == "resnet50"
    least = 25e6 * 4 / 8 + 604_000
    assert point.use.ops_per_byte == pytest.approx(8e9 / least)
    assert point.roof == roof.ceilings["fp32"]
    assert "no gemm and copy" in rooflines(efficiency(rows).uses).missing[0]


def test_the_table_has_a_row_for_each_point_with_the_columns_of_its_series():
    answer = applications(table(*gemm(), *copy(), *application(25.0)))
    row = answer.as_table().to_pylist()[0]
    assert row["model"] == "resnet50"
    assert row["bound_by"] == "arithmetic"
    assert row["arithmetic_share"] == pytest.approx(0.8467, abs=1e-3)
    assert {(one.part, one.series.model) for one in answer.ceilings} == {
        ("arithmetic", "gemm"), ("memory", "copy"),
    }  # fmt: skip


def test_the_keys_and_values_of_a_decoder_count_as_traffic():
    with_cache = only(copy(), application(20.0, kv_cache_bytes=800_000_000))
    without = only(copy(), application(20.0))
    more = with_cache.memory_share.value - without.memory_share.value
    assert more == pytest.approx(20.0 * 100_000_000 / (10_000 * 2**21))

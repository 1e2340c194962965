"""How full each resource of a GPU was, measured by GPM or computed, and what then bounds a point."""

from __future__ import annotations

import pytest
from helpers.trial_tables import table, trials

from raybench.analysis.bottlenecks import bounds
from raybench.analysis.cells import cells
from raybench.analysis.efficiency import efficiency
from raybench.analysis.resources import in_words, ops_per_byte, uses
from raybench.analysis.roofline import rooflines

H200 = {"device": "NVIDIA H200", "device_kind": "gpu", "dram_peak_bytes_per_s": 4.917e12}
QUIET = {"gpu_tensor_frac": 0.1, "gpu_fp32_frac": 0.05, "gpu_dram_frac": 0.2, "gpu_sm_frac": 0.9}


def cell(rate=1000.0, **row):
    (found,) = cells(table(*trials([rate], **{**H200, **row})))
    return found


def bound(**row):
    return {each.what: each.evidence for each in bounds(cell(**row), None, None)}


@pytest.mark.parametrize(
    ("row", "what", "evidence"),
    [
        (
            {"gpu_dram_frac": 0.91},
            "memory",
            "Device memory at 91 % of what it can (4,917 GB/s).",
        ),
        ({"gpu_tensor_frac": 0.64}, "tensor_cores", "Tensor cores busy for 64 % of the time."),
        ({"gpu_fp32_frac": 0.7}, "fp32_units", "Units of fp32 busy for 70 % of the time."),
        (
            {"pcie_rx_bytes_per_s": 55.4e9, "pcie_gen": 5, "pcie_width": 16},
            "pcie_in",
            "PCIe to the device at 88 % of gen5 x16.",
        ),
        (
            {"pcie_tx_bytes_per_s": 24e9, "pcie_gen": 4, "pcie_width": 16},
            "pcie_out",
            "PCIe from the device at 76 % of gen4 x16.",
        ),
    ],
)
def test_the_resource_that_is_full_is_named_with_its_share(row, what, evidence):
    assert bound(**{**QUIET, **row}) == {what: evidence}


def test_a_chip_with_nothing_full_waits_for_launches_or_inside_kernels():
    small = bound(**{**QUIET, "gpu_sm_frac": 0.31})
    assert list(small) == ["launches"]
    assert "31" in small["launches"]
    assert list(bound(**QUIET)) == ["kernel_latency"]
    assert list(bound(**QUIET, flags=["host_bound"], host_idle_frac=0.4)) == ["host"]
    assert not bound(**QUIET, load="0.5")  # it waits for arrivals
    unfed = bound(**QUIET, input_wait_frac=0.92, flags=["host_bound"], host_idle_frac=0.95)
    assert unfed == {
        "decoding": "The device had nothing to do for 92 % of the time for lack of decoded images."
    }
    assert in_words(cell(**QUIET, input_wait_frac=0.92)) == unfed["decoding"]
    assert list(bound(**QUIET, input_wait_frac=0.04)) == ["kernel_latency"]
    assert list(bound(**QUIET, load="1.3", flags=["overloaded"])) == ["kernel_latency"]
    assert list(bound(**{**QUIET, "gpu_tensor_frac": 0.64}, load="0.9")) == ["tensor_cores"]
    assert list(bound(**QUIET, h2d_ms_median=3.0, compute_ms_median=1.0)) == ["copies"]


@pytest.mark.parametrize(
    ("row", "advised"),
    [
        ({"engine": "tensorrt", "inflight": 2}, True),
        ({"engine": "tensorrt", "inflight": 1}, False),  # asks for latency
        ({"engine": "tensorrt", "inflight": 4, "engine_options": '{"streams": 2}'}, False),
        ({"engine": "onnxruntime", "inflight": 2}, False),
        ({"engine": "tensorrt", "inflight": 2, "engine_options": "damaged"}, False),
        ({"engine": "tensorrt", "inflight": 2, "context": 512}, False),  # each step reads the last
    ],
)
def test_where_a_chip_waits_for_launches_two_streams_are_advised(row, advised):
    text = in_words(cell(**{**QUIET, "gpu_sm_frac": 0.15, **row}))
    assert ("engine.streams=2" in text) == advised


def test_cores_and_simulated_devices_and_older_rows_have_no_such_bound():
    full = {"gpu_dram_frac": 0.95, "gpu_sm_frac": 1.0}
    assert bound(**full, simulated=True) == {}
    assert bound(**full, device_kind="cpu", device="A CPU") == {}
    assert bound() == {}
    assert in_words(cell(**full, simulated=True)) is None


def test_without_gpm_arithmetic_is_set_against_the_printed_peak_and_says_so():
    found = bound(rate=200e3, precision="fp16", gflops_per_item=4.0)
    assert list(found) == ["arithmetic"]
    assert "printed peak in fp16 (computed)" in found["arithmetic"]
    assert bound(rate=10e3, precision="fp16", gflops_per_item=4.0) == {}
    assert in_words(cell(rate=10e3, precision="fp16", gflops_per_item=4.0)) is None


def test_without_gpm_the_least_traffic_shows_what_is_full_and_never_what_is_not():
    row = {"parameters": 100_000_000, "batch_size": 1, "input_shape": "x:1x3x224x224"}
    (use,) = uses(cell(rate=40e3, precision="int8", **row))
    assert use.resource == "memory"
    assert not use.measured
    assert use.share == pytest.approx((100e6 + 602_112) * 40e3 / 4.917e12)
    found = bound(rate=40e3, precision="int8", **row)
    assert list(found) == ["memory"]
    assert bound(rate=1e3, precision="int8", **row) == {}


def test_inputs_alone_can_fill_the_link():
    row = {"input_shape": "x:128x3x224x224", "pcie_gen": 3, "pcie_width": 16, "batch_size": 128}
    assert list(bound(rate=22e3, **row)) == ["pcie_in"]
    assert bound(rate=22e3, transfers=False, **row) == {}


@pytest.mark.parametrize("shape", [None, "", "x:8x?x224", "x", "x:8x³"])
def test_shapes_that_say_nothing_give_no_traffic(shape):
    row = {"gflops_per_item": 3.0, "parameters": 7_000_000, "input_shape": shape}
    assert ops_per_byte(cell(**row)) == (None, None)


def test_intensity_is_that_of_the_measured_traffic_of_one_device():
    row = {"gflops_per_item": 3.2, "gpu_dram_frac": 0.5}
    intensity, measured = ops_per_byte(cell(rate=100e3, workers=2, **row))
    assert measured
    assert intensity == pytest.approx(3.2e9 * 50e3 / (0.5 * 4.917e12))


def test_a_roofline_has_the_ceilings_of_its_points_and_each_points_roof():
    rows = table(
        *trials([50e3], precision="int8", gflops_per_item=3.2, gpu_dram_frac=0.5, **H200),
        *trials([40e3], precision="fp16", gflops_per_item=3.2, gpu_dram_frac=0.01, **H200),
    )
    (roof,), missing = rooflines(efficiency(rows).uses).rooflines, ()
    assert missing == ()
    assert dict(roof.ceilings) == {"int8": 1979.0, "fp16": 989.5}
    assert roof.ridge("fp16") == pytest.approx(989.5e3 / 4917, rel=1e-3)
    by = {point.use.series.precision: point for point in roof.points}
    assert by["int8"].performance == pytest.approx(160)
    assert by["int8"].roof == pytest.approx(160 / 0.5)  # on the slope: half of the memory was used
    assert by["fp16"].roof == pytest.approx(989.5)  # below the flat line


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"device": "Some CPU", "device_kind": "cpu"}, "no printed peak"),
        ({"dram_peak_bytes_per_s": None}, "what its memory can"),
        ({"precision": "as_is"}, "its operations and a printed peak"),
        ({"gflops_per_item": None}, "its operations and a printed peak"),
    ],
)
def test_without_a_peak_there_is_a_sentence_in_place_of_a_roofline(row, why):
    rows = table(*trials([50e3], **{"gflops_per_item": 3.2, "gpu_dram_frac": 0.5, **H200, **row}))
    found = rooflines(efficiency(rows).uses)
    assert found.rooflines == ()
    (sentence,) = found.missing
    assert why in sentence


def test_simulated_points_have_no_roofline_and_no_sentence_about_it():
    rows = table(*trials([50e3], gflops_per_item=3.2, gpu_dram_frac=0.5, simulated=True, **H200))
    assert rooflines(efficiency(rows).uses).missing == ()


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0, 1e300, 1e-300])
def test_damaged_readings_are_no_evidence_and_stop_nothing(value):
    columns = ("gpu_sm_frac", "gpu_tensor_frac", "gpu_dram_frac", "pcie_rx_bytes_per_s",
               "dram_peak_bytes_per_s", "gflops_per_item")  # fmt: skip
    row = {**dict.fromkeys(columns, value), "pcie_gen": 5, "pcie_width": -3, "parameters": 2**62}
    found = cell(**{**H200, **row, "input_shape": "x:8x3"})
    assert not any(use.full for use in uses(found))
    rows = table(*trials([50e3], **{**H200, **row, "input_shape": "x:8x3"}))
    assert rooflines(efficiency(rows).uses).rooflines == ()

"""Share of the chip's peak, energy and cost of a point; and the printed peaks themselves."""

from __future__ import annotations

import pytest
from helpers.trial_tables import failed_trial, table, trials

from raybench.analysis.accelerators import accelerators, find, peak
from raybench.analysis.efficiency import efficiency

ROW = {"gflops_per_item": 3.0, "sm_clock_mhz_mean": 1303.0}


def use(*rows, **prices):
    (only,) = efficiency(table(*rows), **prices).uses
    return only


def test_share_of_peak_and_at_the_measured_clock():
    only = use(*trials([6410.0], workers=2, **ROW))
    assert only.achieved_tflops == pytest.approx(19.23)
    assert (only.chip, only.peak_tflops) == ("Tesla P40", 94)  # two devices of 47
    assert "Table 2" in only.peak_source
    assert only.mfu == pytest.approx(19.23 / 94)
    assert only.mfu_clock == pytest.approx(19.23 / (94 * 1303 / 1531))


def test_energy_as_the_rows_tell_it():
    only = use(*trials([10.0], j_per_item=0.5, items_per_j=2.0, energy_source="counter"))
    assert (only.j_per_item, only.items_per_j, only.energy_source) == (0.5, 2, "counter")


def test_the_price_of_a_million_items():
    only = use(*trials([1000.0], workers=4), usd_per_device_hour=3.6)
    assert only.usd_per_million_items == pytest.approx(4.0)  # 4 devices, 1000 s
    assert use(*trials([1000.0])).usd_per_million_items is None


def test_a_device_that_nobody_prints_a_peak_for_has_none():
    found = efficiency(table(*trials([1.0], device="AMD EPYC", **ROW)))
    (only,) = found.uses
    assert (only.chip, only.mfu, only.achieved_tflops) == (None, None, 0.003)
    assert found.missing[0].startswith("No share of peak of AMD EPYC")
    fp16 = efficiency(table(*trials([1.0], precision="fp16", **ROW)))
    assert "none is printed for fp16 of Tesla P40" in fp16.missing[0]


def test_what_cannot_be_said_is_named():
    assert efficiency(table()).missing == ("There are no rows.",)
    assert "failed" in efficiency(table(failed_trial("failed"))).missing[0]
    missing = " ".join(efficiency(table(*trials([1.0]))).missing)
    for words in ("operations of googlenet", "No energy", "No cost"):
        assert words in missing


# --- conf/accelerators.yaml -----------------------------------------------------------------------


def test_the_studys_table_2_stands_among_the_peaks():
    assert (peak("Tesla P40", "int8").value, peak("Tesla P40", "fp32").value) == (47.0, 11.8)
    assert peak("Tesla P4", "int8").value == 21.8
    assert "Table 2" in peak("Tesla P4", "int8").source


@pytest.mark.parametrize(
    ("driver_name", "name"),
    [
        ("NVIDIA H200", "H200 SXM"), ("NVIDIA H200 NVL", "H200 NVL"), ("Tesla T4", "T4"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"), ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100 80GB PCIe", "A100"), ("Tesla V100-SXM2-16GB", "Tesla V100 SXM2"),
        ("NVIDIA L40S", "L40S"), ("NVIDIA A10", "A10"), ("nvidia geforce rtx 4090", "GeForce RTX 4090"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None), ("AMD EPYC", None), (None, None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None), ("NVIDIA A10G", None),
    ],
)  # fmt: skip
def test_a_drivers_name_finds_its_chip(driver_name, name):
    chip = find(driver_name)
    assert (chip.name if chip else None) == name


def test_every_peak_has_a_value_and_a_source_and_no_name_means_two_chips():
    chips = accelerators()
    assert len({chip.name for chip in chips}) == len(chips) > 20
    for chip in chips:
        assert chip.peaks
        for one in chip.peaks.values():
            assert one.value > 0
            assert one.source
            assert (one.clock_mhz is None) == (one.clock_source is None)


@pytest.mark.parametrize(
    ("device", "cores"),
    [
        ("Tesla P40", 3840), ("Tesla M40", 3072), ("Tesla P100-PCIE-16GB", 3584),
        ("Tesla V100-SXM2-16GB", 5120), ("Tesla T4", 2560), ("NVIDIA A100-SXM4-80GB", 6912),
        ("NVIDIA A30", 3584), ("NVIDIA A10", 9216), ("NVIDIA A40", 10752), ("NVIDIA L4", 7424),
        ("NVIDIA L40S", 18176), ("NVIDIA H100 80GB HBM3", 16896), ("NVIDIA H100 PCIe", 14592),
        ("NVIDIA H200", 16896), ("NVIDIA GeForce RTX 3090", 10496),
        ("NVIDIA GeForce RTX 4090", 16384), ("NVIDIA RTX 6000 Ada Generation", 18176),
    ],
)  # fmt: skip
def test_fp32_is_two_operations_a_core_and_clock(device, cores):
    """A figure and its clock that do not belong together would show here."""
    one = peak(device, "fp32")
    assert one.value == pytest.approx(2 * cores * one.clock_mhz / 1e6, rel=0.025)


def test_energy_has_the_bounds_of_its_rows_and_none_where_they_have_none():
    bounds = {"avg_power_w": 500.0, "avg_power_w_lo": 490.0, "avg_power_w_hi": 510.0}
    assert use(*trials([10.0], **bounds)).energy_error_rel == pytest.approx(0.02)
    assert use(*trials([10.0], avg_power_w=500.0)).energy_error_rel is None


def test_integers_are_operations_and_not_floating_point_ones():
    assert use(*trials([10.0], precision="int8")).unit == "TOP/s"
    assert use(*trials([10.0], precision="fp16")).unit == "TFLOP/s"

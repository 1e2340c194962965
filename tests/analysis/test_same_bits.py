"""Devices whose outputs changed are rejected; devices that differ from others are a warning."""

from __future__ import annotations

import io

import pytest
from helpers.fleets import FleetRows

from raybench.analysis.acceptance import accept
from raybench.report.fleet_lines import closing, fleet_lines
from raybench.report.terminal.acceptance import print_acceptance

SAME = {"outputs_sha256_start": "aa", "outputs_sha256_end": "aa"}


def fleet_of(own, count=8, gpus=None, **fields):
    """Rows of sound devices with the same bits, apart from these columns by device."""
    facts = {device: {**SAME, **own.get(device, {})} for device in range(count)}
    return FleetRows([1.0] * count, facts=facts, gpus=gpus or {}, **fields)


def text_of(acceptance, form="table"):
    out = io.StringIO()
    print_acceptance(acceptance, form, out)
    return out.getvalue()


def test_devices_of_the_same_bits_are_counted_and_accepted():
    acceptance = accept(*fleet_of({}).tables)
    assert acceptance.exit_code == 0
    assert (acceptance.bits.known, acceptance.bits.compared) == (8, 8)
    assert (
        "Same bits before and after every trial: 8 of 8 devices; 8 compared with one another."
        in (closing(acceptance))
    )


def test_a_device_whose_outputs_changed_is_rejected_although_it_is_as_fast_as_the_others():
    acceptance = accept(*fleet_of({5: {"outputs_sha256_end": "ab"}}).tables)
    assert acceptance.exit_code == 1
    (changed,) = [one for one in acceptance.devices if one.verdict == "reject"]
    assert changed.name == "n01 GPU 5"
    assert changed.worst.cause == "its outputs changed during the trial"
    assert changed.worst.to_population.value == pytest.approx(1, abs=0.01)
    assert changed.slow_in == ()
    assert acceptance.bits.warnings == ()
    assert "its outputs changed during the trial" in text_of(acceptance)
    assert 'failure message="1.00' in text_of(acceptance, "junit")
    assert '"outputs_changed": true' in text_of(acceptance, "json")


def test_a_device_that_is_slow_as_well_keeps_that_cause():
    own = {1: {"outputs_sha256_end": "ab", "pcie_width": 8}}
    rows = fleet_of(own)
    slow = FleetRows([1.0, 0.8] + [1.0] * 6, facts=rows.facts)
    (changed,) = [one for one in accept(*slow.tables).devices if one.verdict == "reject"]
    assert changed.worst.cause == (
        "its outputs changed during the trial; it is slow as well: PCIe x8 instead of x16"
    )


def test_a_change_in_one_of_many_trials_is_enough():
    rows = fleet_of({})
    workers = rows.workers.to_pylist()
    place = next(k for k, row in enumerate(workers) if row["gpu_uuid"] == "GPU-2")
    workers[place]["outputs_sha256_end"] = "ff"
    changed = type(rows.workers).from_pylist(workers, schema=rows.workers.schema)
    acceptance = accept(rows.trials, changed, rows.environment)
    assert acceptance.bits.changed == ("n01 GPU 2",)


def test_a_device_that_differs_from_the_others_is_a_warning_and_no_verdict():
    other = {"outputs_sha256_start": "bb", "outputs_sha256_end": "bb"}
    acceptance = accept(*fleet_of({3: other}).tables)
    assert acceptance.exit_code == 0
    (warning,) = acceptance.bits.warnings
    assert warning.startswith("Outputs differ: n01 GPU 3 computes other bits than the 7 others ")
    assert warning in text_of(acceptance)
    assert all(line.verdict == "accept" for line in fleet_lines(acceptance))


def test_of_two_devices_that_differ_neither_is_blamed():
    other = {"outputs_sha256_start": "bb", "outputs_sha256_end": "bb"}
    (warning,) = accept(*fleet_of({1: other}, 2).tables).bits.warnings
    assert "between n01 GPU 0, n01 GPU 1" in warning


@pytest.mark.parametrize(
    ("own", "gpus"),
    [
        ({"engine_sha256": "another plan"}, {}),
        ({"threads": 7}, {}),
        ({}, {"driver_version": "570.0"}),
        ({}, {"tensorrt_version": "8.6.0"}),
    ],
)
def test_another_plan_driver_or_library_may_compute_other_bits(own, gpus):
    other = {"outputs_sha256_start": "bb", "outputs_sha256_end": "bb", **own}
    acceptance = accept(*fleet_of({3: other}, gpus={3: gpus} if gpus else {}).tables)
    assert acceptance.bits.warnings == ()
    assert acceptance.bits.compared == 7


def test_other_inputs_give_other_outputs():
    both = fleet_of({}), fleet_of({k: {"outputs_sha256_start": "s1", "outputs_sha256_end": "s1"} for k in range(8)},
                                  columns={"seed": 1}, prefix="x")  # fmt: skip
    import pyarrow as pa

    tables = [pa.concat_tables(of) for of in zip(*(rows.tables for rows in both), strict=True)]
    assert accept(*tables).bits.warnings == ()


def test_a_device_that_repeats_itself_within_a_process_only_is_not_compared():
    rows = fleet_of({})
    workers = rows.workers.to_pylist()
    own = [row for row in workers if row["gpu_uuid"] == "GPU-2"]
    for k, row in enumerate(own):
        row["outputs_sha256_start"] = row["outputs_sha256_end"] = f"{k}"
    changed = type(rows.workers).from_pylist(workers, schema=rows.workers.schema)
    bits = accept(rows.trials, changed, rows.environment).bits
    assert (bits.known, bits.compared, bits.warnings, bits.changed) == (8, 7, (), ())


def test_rows_without_hashes_say_nothing_of_bits():
    acceptance = accept(*FleetRows([1.0] * 4).tables)
    assert acceptance.bits.known == 0
    assert not any("bits" in line for line in closing(acceptance))

"""Which devices of a fleet are accepted, rejected or undecided, and why."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from helpers.fleets import FleetRows
from helpers.trial_tables import failed_trial, table

from raybench.analysis.acceptance import accept
from raybench.analysis.rate_baseline import read_json, to_baseline_file, write_json
from raybench.errors import ConfigError
from raybench.report.fleet_lines import heading


def verdicts(acceptance, wanted):
    return [device.name for device in acceptance.devices if device.verdict == wanted]


def baseline_of(rows):
    return to_baseline_file(*rows.tables, "0.1.0")


def test_a_sound_fleet_is_accepted():
    acceptance = accept(*FleetRows([1.0] * 16).tables)
    assert (acceptance.count("accept"), acceptance.exit_code) == (16, 0)
    assert acceptance.missing == ()


def test_a_slow_device_is_rejected_with_what_differs_from_the_others():
    shares = [1.0] * 16
    shares[11] = 0.9
    rows = FleetRows(shares, gpus={11: {"power_limit_w": 604.0}})
    acceptance = accept(*rows.tables)
    assert verdicts(acceptance, "reject") == ["n02 GPU 3"]
    worst = acceptance.devices[11].worst
    assert worst.to_population.lo < 0.9 < worst.to_population.hi
    assert worst.cause == "power limit 604 W, 96 W under the others'"
    assert (acceptance.groups, acceptance.exit_code) == ((), 1)


def test_a_slow_rack_is_named_before_its_devices_and_explains_them():
    shares = np.ones(64)
    shares[16:32] = 0.93
    shares[18] = 0.8
    slow_link = {device: {"pcie_width": 8} for device in range(16, 32)}
    acceptance = accept(*FleetRows(shares, racks=2, facts=slow_link).tables)
    assert {(g.kind, g.name, g.devices) for g in acceptance.groups} == {("rack", "b1", 16)}
    assert {group.cause for group in acceptance.groups} == {"PCIe x8 instead of x16"}
    explained = {d.name: d.worst.slow_group for d in acceptance.devices if d.verdict == "reject"}
    assert len(explained) == 16
    assert [name for name, group in explained.items() if group is None] == ["n03 GPU 2"]
    assert set(explained.values()) == {None, "rack b1"}


def test_one_slow_card_does_not_condemn_its_host():
    acceptance = accept(*FleetRows([0.5] + [1.0] * 31).tables)
    assert acceptance.groups == ()
    assert verdicts(acceptance, "reject") == ["n01 GPU 0"]


def test_too_few_trials_leave_a_device_undecided_with_the_number_that_decides():
    shares = [1.0] * 8
    shares[2] = 0.95
    acceptance = accept(*FleetRows(shares, sd=0.01, count=2).tables)
    assert "n01 GPU 2" in verdicts(acceptance, "undecided")
    needed = acceptance.devices[2].worst.trials_needed
    again = accept(*FleetRows(shares, sd=0.01, count=needed + 5, seed=3).tables)
    assert again.devices[2].verdict == "reject"


def test_one_trial_decides_nothing_and_says_so():
    acceptance = accept(*FleetRows([1.0, 0.5, 1.0], count=1).tables)
    assert (acceptance.count("undecided"), acceptance.exit_code) == (3, 3)
    assert any("3 devices with a single trial" in sentence for sentence in acceptance.missing)
    assert acceptance.devices[0].worst.to_population.lo is None
    assert acceptance.devices[0].worst.trials_needed == 3


def test_of_two_devices_the_slower_is_rejected_against_the_other():
    acceptance = accept(*FleetRows([1.0, 0.8]).tables)
    assert verdicts(acceptance, "reject") == ["n01 GPU 1"]
    assert verdicts(acceptance, "accept") == ["n01 GPU 0"]


def test_one_device_needs_a_baseline():
    rows = FleetRows([0.9])
    with pytest.raises(ConfigError, match=r"One device .* Give baseline=FILE"):
        accept(*rows.tables)
    baseline = baseline_of(FleetRows([1.0] * 8))
    acceptance = accept(*rows.tables, baseline=baseline)
    assert verdicts(acceptance, "reject") == ["n01 GPU 0"]
    assert acceptance.devices[0].worst.to_population.value is None


def test_a_fleet_that_is_slow_as_a_whole_shows_against_the_baseline_alone():
    rows = FleetRows([0.9] * 8)
    assert accept(*rows.tables).exit_code == 0
    baseline = baseline_of(FleetRows([1.0] * 8))
    assert accept(*rows.tables, baseline=baseline).count("reject") == 8


@pytest.mark.parametrize(
    ("columns", "product", "said"),
    [
        ({"precision": "fp16"}, "NVIDIA H200", "its precision is fp16, that of the rows is int8"),
        ({"engine_version": "8.6"}, "NVIDIA H200", "its engine version is 8.6"),
        ({}, "NVIDIA H100", "its chip is NVIDIA H100, that of the rows is NVIDIA H200"),
    ],
)
def test_a_baseline_of_another_chip_precision_or_version_is_refused(columns, product, said):
    other = FleetRows(
        [1.0] * 4, columns=columns, facts={device: {"device": product} for device in range(4)}
    )
    with pytest.raises(ConfigError, match=said):
        accept(*FleetRows([1.0] * 4).tables, baseline=baseline_of(other))


def test_a_baseline_of_other_points_is_refused():
    other = FleetRows([1.0] * 4, columns={"model": "resnet50"})
    rows = FleetRows([1.0] * 4)
    acceptance = accept(*rows.tables, baseline=baseline_of(other))
    assert any("not in the baseline" in sentence for sentence in acceptance.missing)
    with pytest.raises(ConfigError, match="none of the points"):
        accept(*FleetRows([1.0]).tables, baseline=baseline_of(other))


def test_a_baseline_survives_its_file():
    baseline = baseline_of(FleetRows([1.0] * 4))
    assert read_json(write_json(baseline), "file") == baseline
    rate = baseline.rates[0]
    assert rate.items_per_s_lo < 1000 < rate.items_per_s_hi
    assert baseline.environment[0]["driver_version"] == "580.1"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"raybench_baseline": 2}', '{"raybench_baseline": 1, "rates": [{}]}'],
)
def test_a_broken_baseline_file_is_refused_with_what_to_do(text):
    with pytest.raises(ConfigError, match="raybench baseline DIR out=FILE"):
        read_json(text, "my.json")


def test_compute_memory_and_link_are_separated():
    parts = [
        FleetRows([1.0] * 8, columns={"model": "gemm", "transfers": False}, prefix="g"),
        FleetRows([1.0] * 7 + [0.8], columns={"model": "copy"}, prefix="c"),
        FleetRows([1.0] * 8, columns={"model": "copy", "transfers": False}, prefix="m"),
    ]
    (last,) = [d for d in accept(*joined(*parts)).devices if d.verdict == "reject"]
    assert (last.slow_in, last.sound_in) == (("link",), ("compute", "memory"))


@pytest.mark.parametrize(
    ("model", "kind", "transfers", "part"),
    [
        ("gemm", "gpu", False, "compute"),
        ("gemm", "gpu", True, None),  # limited by either
        ("gemm", "cpu", True, "compute"),
        ("copy", "gpu", True, "link"),
        ("copy", "cpu", True, "memory"),
        ("resnet50", "cpu", True, None),
    ],
)
def test_a_core_has_no_link_and_a_gpu_s_hides_its_arithmetic(model, kind, transfers, part):
    columns = {"model": model, "device_kind": kind, "transfers": transfers}
    verdicts = accept(*FleetRows([1.0] * 3, columns=columns).tables).verdicts
    assert {verdict.part for verdict in verdicts} == {part}


def test_the_middle_device_s_rates_have_the_units_of_its_parts():
    h200 = {"precision": "fp16", "transfers": False, "device_kind": "gpu"}
    parts = [
        FleetRows([160.0] * 4, columns={**h200, "model": "gemm"}, prefix="g", sd=1e-6),
        FleetRows([0.5] * 4, columns={**h200, "model": "gemm", "precision": "int8"}, prefix="i", sd=1e-6),
        FleetRows([2000.0] * 4, columns={**h200, "model": "copy"}, prefix="m", sd=1e-6),
        FleetRows([45.0] * 4, columns={**h200, "model": "copy", "transfers": True}, prefix="c", sd=1e-6),
    ]  # fmt: skip
    last = heading(accept(*joined(*parts)))[-1]
    assert last == (
        "The middle device reaches 687.2 TFLOP/s in fp16 (69 % of the printed peak), 2.147 TOP/s in "
        "int8 (0 % of the printed peak), 4,194 GB/s of memory, read and written, 47.19 GB/s each way over "
        "its link."
    )


def test_simulated_devices_have_no_rates_in_such_units():
    columns = {"model": "copy", "simulated": True}
    assert "reaches" not in " ".join(heading(accept(*FleetRows([1.0] * 4, columns=columns).tables)))


def test_instances_of_a_device_count_as_one():
    rows = FleetRows([1.0] * 4, together=False)
    halves = [{**row, "items_per_s": row["items_per_s"] / 2} for row in rows.workers.to_pylist()]
    twice = pa.Table.from_pylist(halves * 2, schema=rows.workers.schema)
    acceptance = accept(rows.trials, twice, rows.environment)
    assert acceptance.verdicts[0].items_per_s == pytest.approx(1000, rel=0.01)
    assert acceptance.verdicts[0].trials == 3


def test_an_impossible_tolerance_is_refused():
    with pytest.raises(ConfigError, match="tolerance takes a share"):
        accept(*FleetRows([1.0] * 4).tables, tolerance=1.0)


def test_racks_of_one_run_are_named_by_host():
    shares = [1.0] * 8 + [0.9] * 8 + [1.0] * 8
    racks = {"rack.n01": "a", "rack.n02": "a", "rack.n03": "b", "rack.n04": "b", "rack": "c"}
    rows = FleetRows(shares, per_host=4, columns={"tags": racks})
    assert {(g.kind, g.name) for g in accept(*rows.tables).groups} == {("rack", "b")}


def test_what_slows_a_whole_fleet_is_named_from_the_facts_of_the_baseline():
    baseline = read_json(write_json(baseline_of(FleetRows([1.0] * 4))), "file")
    limited = {device: {"power_limit_w": 500.0} for device in range(4)}
    acceptance = accept(*FleetRows([0.8] * 4, gpus=limited).tables, baseline=baseline)
    causes = {device.worst.cause for device in acceptance.devices}
    assert causes == {"power limit 500 W, 200 W under the others'"}


def joined(*rows):
    return [pa.concat_tables(tables) for tables in zip(*(one.tables for one in rows), strict=True)]


def test_fewer_devices_together_are_not_the_whole_fleet():
    half = FleetRows([5.0] * 4, alone=False, prefix="half")  # four of the eight: less is shared
    acceptance = accept(*joined(FleetRows([1.0] * 8, alone=False), half))
    assert {verdict.trials for verdict in acceptance.verdicts} == {3}
    assert acceptance.verdicts[0].items_per_s == pytest.approx(1000, rel=0.01)
    assert any("measured alone" in sentence for sentence in acceptance.missing)


def test_a_repeated_trial_counts_once_and_the_newest_one():
    first, again = FleetRows([0.5] * 4), FleetRows([1.0] * 4, seed=1)
    tables = list(joined(first, again))
    for k in (0, 1):
        place = tables[k].column_names.index("run_id")
        rows = (first.tables[k].num_rows, again.tables[k].num_rows)
        runs = ["01A"] * rows[0] + ["01B"] * rows[1]
        tables[k] = tables[k].set_column(place, "run_id", pa.array(runs))
    acceptance = accept(*tables)
    assert {verdict.trials for verdict in acceptance.verdicts} == {3}
    assert acceptance.verdicts[0].items_per_s == pytest.approx(1000, rel=0.01)


def test_a_fleet_with_a_failed_trial_is_not_accepted():
    rows = FleetRows([1.0] * 4)
    died = failed_trial("worker_died", "GPU 3 fell off the bus.", point_id="s3", trial=7)
    trials = pa.concat_tables([rows.trials, table(died)])
    acceptance = accept(trials, rows.workers, rows.environment)
    assert (acceptance.count("accept"), acceptance.exit_code) == (4, 3)
    assert any("GPU 3 fell off the bus." in sentence for sentence in acceptance.missing)


def test_a_device_that_nothing_can_be_compared_with_keeps_the_fleet_open():
    other = {4: {"device": "NVIDIA H100"}}
    acceptance = accept(*FleetRows([1.0] * 5, facts=other, together=False).tables)
    assert (acceptance.count("accept"), acceptance.unjudged) == (4, ("n01 GPU 4",))
    assert acceptance.exit_code == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [("log_rate", 1e308), ("log_rate", "x"), ("variance", -1.0), ("df", 0), ("versions", [[]]),
     ("series", {"colour": "red"}), ("facts", [1]), ("plans", None)],
)  # fmt: skip
def test_a_damaged_rate_of_a_baseline_is_refused(name, value):
    facts = json.loads(write_json(baseline_of(FleetRows([1.0] * 4))))
    facts["rates"][0][name] = value
    with pytest.raises(ConfigError, match="broken baseline"):
        read_json(json.dumps(facts), "my.json")


def test_a_device_that_is_slow_only_beside_the_others_is_so_named():
    alone = FleetRows([1.0] * 4, together=False)
    together = FleetRows([1.0, 1.0, 1.0, 0.9], alone=False)
    last = accept(*joined(alone, together)).devices[3]
    assert (last.verdict, last.sound_alone) == ("reject", True)
    both = accept(*FleetRows([1.0, 1.0, 1.0, 0.9]).tables).devices[3]
    assert (both.verdict, both.sound_alone) == ("reject", False)

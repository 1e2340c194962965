"""What devices lose beside each other, against each alone."""

from __future__ import annotations

import pytest
from helpers.fleets import FleetRows

from raybench.analysis.acceptance import accept
from raybench.analysis.interference import interference
from raybench.report.build import report
from raybench.report.terminal.interference import of_pairs

BOTH = {(0, 1): 0.2, (1, 0): 0.1}
"""The first two devices of four disturb each other."""


def matrix_of(rows):
    (matrix,) = interference(rows.trials, rows.workers)
    return matrix


def test_every_pair_has_the_loss_of_either_device_with_an_interval():
    matrix = matrix_of(FleetRows([1.0, 1.1, 0.9, 1.0], beside=BOTH, together=False))
    losses = {(loss.device, loss.beside): loss for loss in matrix.losses}
    assert matrix.devices == tuple(f"n01 GPU {k}" for k in range(4))
    assert len(losses) == 12
    first, second = (losses[f"n01 GPU {a}", f"n01 GPU {b}"] for a, b in ((0, 1), (1, 0)))
    assert first.ratio.lo < 0.8 < first.ratio.hi
    assert second.ratio.lo < 0.9 < second.ratio.hi
    assert {pair for pair, loss in losses.items() if loss.sure} == {
        (first.device, first.beside), (second.device, second.beside),
    }  # fmt: skip
    assert matrix.as_table().num_rows == 12


def test_the_finding_names_the_largest_loss_and_how_many_are_sure():
    matrix = matrix_of(FleetRows([1.0] * 4, beside=BOTH, together=False))
    assert matrix.finding.startswith("n01 GPU 0 loses the most, 20.")
    assert matrix.finding.endswith(
        "beside n01 GPU 1; 2 of 12 losses are beyond doubt; shared resource not seen."
    )


def test_a_link_is_named_only_where_it_was_full_and_both_devices_are_on_its_node():
    full = {"pcie_rx_bytes_per_s": 60e9, "pcie_gen": 5, "pcie_width": 16, "device_kind": "gpu"}
    near = {device: {"numa_node": 0} for device in range(4)}
    apart = {**near, 1: {"numa_node": 1}}
    rows = {"columns": full, "beside": BOTH, "together": False}
    same = matrix_of(FleetRows([1.0] * 4, facts=near, **rows))
    assert "shared resource that was full: PCIe to the device at" in same.finding
    assert same.finding.endswith("both on NUMA node 0 of n01.")
    other = matrix_of(FleetRows([1.0] * 4, facts=apart, **rows))
    assert other.finding.endswith("not seen.")


def test_one_trial_has_no_interval_and_says_what_to_do():
    matrix = matrix_of(FleetRows([1.0] * 3, beside=BOTH, count=1, together=False))
    assert {loss.ratio.lo for loss in matrix.losses} == {None}
    assert "no interval with one trial of a pair: measure trials=3" in matrix.finding


def test_pairs_without_their_devices_alone_have_no_matrix():
    rows = FleetRows([1.0] * 3, beside=BOTH, alone=False)
    assert interference(rows.trials, rows.workers) == ()


def test_pairs_are_no_fleet_that_is_judged():
    rows = FleetRows([1.0] * 4, beside={(0, 1): 0.5, (1, 0): 0.5}, together=False)
    acceptance = accept(*rows.tables)
    assert {verdict.situation for verdict in acceptance.verdicts} == {"alone"}
    assert acceptance.exit_code == 0


def test_the_matrix_is_printed_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)
    rows = FleetRows([1.0] * 3, beside=BOTH, together=False)
    lines = of_pairs(interference(rows.trials, rows.workers))
    assert lines[1].split() == ["loss", "in", "%,", "beside", "1", "2", "3"]
    assert lines[2].split()[:5] == ["1", "n01", "GPU", "0", "-"]
    assert float(lines[2].split()[5]) == pytest.approx(20, abs=1)
    report([rows.write(tmp_path / "rows")], str(tmp_path / "out"))
    text = (tmp_path / "out/report.md").read_text("utf-8")
    assert "Pairs of devices" in text
    assert "n01 GPU 0 loses the most" in text
    assert (tmp_path / "out/figures/pairs-1.png").exists()

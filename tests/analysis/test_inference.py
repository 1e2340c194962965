"""Claims about rates, in their short form; benchmarks/inference.py counts tens of thousands."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.inference import Cell, alone, comparison, speedup

RUNS = 600
COVERS = 0.95 - 3.5 * (0.95 * 0.05 / RUNS) ** 0.5, 0.95 + 3.5 * (0.95 * 0.05 / RUNS) ** 0.5


@pytest.mark.parametrize("trials", [3, 5])
def test_the_speedups_interval_covers_the_truth(trials):
    share = speedup(Cell("speedup", trials), np.random.default_rng(trials), RUNS)["share"]
    assert COVERS[0] <= share <= COVERS[1] + 0.01  # 96.5 % with 3 trials


def test_so_does_that_over_the_same_devices_each_alone():
    share = alone(Cell("alone", 3), np.random.default_rng(3), RUNS)["share"]
    assert COVERS[0] <= share <= COVERS[1]


def test_equal_sides_are_hardly_ever_called_different():
    share = comparison(Cell("called", 3), np.random.default_rng(1), RUNS)["share"]
    assert share <= 0.01  # 0.01 % of 20,000


def test_a_drop_of_5_percent_is_found():
    share = comparison(Cell("found", 3, shift=-0.05), np.random.default_rng(2), RUNS)["share"]
    assert share >= 0.99


def test_a_drop_as_large_as_the_threshold_is_called_no_more_often_than_the_level_says():
    share = comparison(Cell("edge", 5, shift=-0.01), np.random.default_rng(4), RUNS)["share"]
    assert share <= 0.025 + 3.5 * (0.025 * 0.975 / RUNS) ** 0.5

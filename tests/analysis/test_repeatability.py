"""Two figures for several trials: what one claims for itself, and how far the next one lies."""

from __future__ import annotations

import math

import pytest

from raybench.analysis.repeatability import repeats
from raybench.report.terminal.point_names import of_trials
from raybench.results.store import build

GOOD = {
    "run_id": "01A",
    "environment_id": "e1",
    "point_id": "p",
    "status": "ok",
    "verdict": "stable",
    "model": "alexnet",
    "precision": "int8",
    "batch_size": 8,
    "workers": 2,
    "rel_half_width": 0.002,
    "n_blocks": 60,
    "n_eff": 60.0,
}


def table(*rates, **row):
    trials = [{**GOOD, "trial": k, "items_per_s": rate, **row} for k, rate in enumerate(rates)]
    return build("trials", trials, {})


def test_precision_and_reproducibility_are_two_figures():
    (found,) = repeats(table(990.0, 1000.0, 1010.0))
    assert found.within == pytest.approx(0.002)
    assert found.spread == pytest.approx(0.01)
    assert found.between == pytest.approx(math.sqrt(0.01**2 - 0.001**2), rel=1e-3)  # t is 2.0
    assert (found.trials, found.workers, found.needed) == (3, 2, 18)


def test_trials_that_differ_by_their_own_noise_alone_have_nothing_between_them():
    (found,) = repeats(table(999.0, 1000.0, 1001.0, rel_half_width=0.02))
    assert found.between == 0
    assert found.spread == pytest.approx(0.001)


def test_a_single_trial_and_one_without_interval_tell_nothing():
    assert repeats(table(1000.0)) == []
    assert repeats(table(990.0, 1010.0, rel_half_width=None)) == []
    assert repeats(table(990.0, 1010.0, status="timeout")) == []


def test_a_line_tells_both_and_how_many_trials_would_do():
    head, line = of_trials(repeats(table(990.0, 1000.0, 1010.0)))
    assert "reproducibility" in head
    assert line == (
        "alexnet: one trial claims ± 0.20 % for itself; 3 trials differ by 1.00 % "
        "(standard deviation); 18 trials would give ± 0.50 %"
    )
    assert "look for what changes between them" in of_trials(repeats(table(500.0, 1500.0)))[1]
    assert of_trials(repeats(table(999.9, 1000.0, 1000.1)))[1].endswith("; they give ± 0.50 %")
    assert of_trials([]) == []

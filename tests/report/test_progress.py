import pytest

from raybench.report.progress import duration, ending

OK = {"status": "ok", "reason": None, "items_per_s": 1234.5, "rel_half_width": 0.004}


def test_a_finished_row_says_rate_interval_and_verdict():
    row = {**OK, "verdict": "stable", "advice": None}
    assert ending(row) == "1,234.5 items/s ± 0.4 % ✓ stable"


def test_an_unstable_row_says_what_to_do_and_a_simulated_one_what_it_is():
    row = {**OK, "verdict": "unstable", "advice": "Run longer.", "simulated": True}
    assert ending(row) == "1,234.5 items/s ± 0.4 % ~ unstable (Run longer.) SIMULATED"


def test_a_row_without_a_number_says_why():
    row = {"status": "worker_died", "reason": "It ended.", "verdict": None}
    assert ending(row) == "✗ worker_died: It ended."


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.4, "59 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_times_are_written_for_people(seconds, words):
    assert duration(seconds) == words

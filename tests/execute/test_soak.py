"""Soaks without Ray: rows while they run, and a summary whatever ends them."""

import pytest
from helpers.fake_runs import SLOTS, FakeRun
from helpers.fake_workers import FakeReservation, concerning, fails

from raybench.config.compose import read
from raybench.errors import ConfigError, WorkerDied
from raybench.execute.events import IntervalEnded, Note, TrialStarted
from raybench.execute.progress_lines import outcome

HOUR = 120
"""As long as an hour is here."""
WORDS = (
    *("experiment=soak", "batch_size=8", "measure.block_s=10", "measure.row_every_s=120"),
    *("measure.max_s=1200", "measure.warmup_min_s=10", "measure.warmup_max_s=60"),
)


def run(*words, **options):
    reservation = options.pop("reservation", None) or FakeReservation(SLOTS, batch_s=0.5)
    return FakeRun(*WORDS, *words, reservation=reservation, **options).execute()


def intervals(finished):
    return [event for event in finished.events if isinstance(event, IntervalEnded)]


def test_a_soak_lasts_for_its_time_and_gives_a_row_an_hour_and_worker_and_a_summary():
    finished = run("workers=2")
    assert [event.interval for event in intervals(finished)] == list(range(10))
    for event in intervals(finished):
        assert [row["worker"] for row in event.rows] == [0, 1]
        for row in event.rows:
            assert row["items_per_s"] == pytest.approx(16.0, rel=1e-3)
            assert row["window_s"] == pytest.approx(HOUR, abs=1)
            assert row["latency_p50_ms"] == pytest.approx(500, rel=0.005)
            assert row["ratio_to_first"] == pytest.approx(1, abs=1e-3)
            assert row["n_blocks"] == 12
    (row,) = finished.rows
    assert row["status"] == "ok"
    assert row["window_s"] == pytest.approx(10 * HOUR, abs=1)
    assert row["items_per_s"] == pytest.approx(32.0, rel=1e-3)
    assert row["latency_n"] == pytest.approx(2 * 2 * 10 * HOUR, rel=1e-3)
    assert row["drift_rel_lo"] <= row["drift_rel"] <= row["drift_rel_hi"]
    tables = finished.store.tables[0]
    assert len(tables["workers"]) == 2
    assert sum(block["phase"] == "measure" for block in tables["blocks"]) == 2 * 120


def test_the_rows_of_an_interval_are_written_when_it_ends_and_before_its_trial():
    finished = run("workers=1")
    names = [name for name, *_ in finished.store.intervals]
    (planned,) = [event.planned for event in finished.announced(TrialStarted)]
    assert names == [f"{planned.point.id}-t0-i{number}" for number in range(10)]
    _, fixed, tables = finished.store.intervals[3]
    assert (fixed["trial"], fixed["environment_id"]) == (0, "e" * 20)
    assert [row["interval"] for row in tables["soak"]] == [3]
    assert finished.store.order.index("trial") == 10


def test_a_device_that_slows_down_by_the_hour_has_a_drift_with_an_interval():
    slowing = FakeReservation(
        SLOTS, batch_s=0.5, speed=lambda rank, at_s: 1 - 0.05 * rank * at_s / (10 * HOUR)
    )
    finished = run("workers=2", reservation=slowing)
    sound, slow = finished.store.tables[0]["workers"]
    assert abs(sound["drift_rel"]) < 0.001
    assert slow["drift_rel_lo"] < -0.05 * (1 + 0.025) * 0.97
    assert slow["drift_rel_hi"] < -0.045
    assert "drift" in finished.rows[0]["flags"]
    ratios = [event.rows[1]["ratio_to_first"] for event in intervals(finished)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == pytest.approx(1 - 0.045, abs=0.003)
    lines = [note.text for note in finished.announced(Note)]
    assert lines[-3].endswith("-4.52 % since the first row (host-a, worker 1)")
    assert lines[-2].startswith("soak: worker 1 on host-a drifted by -5.")


def broken_at(seconds, error):
    """Script that raises an error while the streams are this old."""

    def script(phase, group):
        if phase == "stream" and group.streams and group.streams[-1].elapsed_s() > seconds:
            raise concerning(error, 0)

    return script


def test_a_soak_whose_worker_dies_keeps_what_was_measured_and_is_not_begun_again():
    dying = FakeReservation(SLOTS, batch_s=0.5, script=broken_at(5.5 * HOUR, WorkerDied("gone")))
    finished = run("workers=2", reservation=dying)
    (row,) = finished.rows
    assert (row["status"], row["reason"], row["attempts"]) == ("worker_died", "gone", 1)
    assert row["window_s"] == pytest.approx(5.5 * HOUR, abs=60)
    assert row["items_per_s"] == pytest.approx(32.0, rel=1e-3)
    assert row.get("verdict") is None
    assert "worker_died: gone Until then 32.0 items/s over 10 min 30 s." in outcome(row)
    *_, last, end = intervals(finished)
    assert (last.interval, end.interval, end.rows) == (5, 6, ())
    assert last.rows[0]["window_s"] == pytest.approx(0.5 * HOUR, abs=60)
    (event,) = end.events
    assert (event["kind"], event["value"], event["text"]) == ("ended", None, "gone")
    assert event["t_s"] >= last.rows[0]["t_start_s"]


def test_an_interrupted_soak_has_a_row_over_what_was_measured_and_is_measured_again():
    reservation = FakeReservation(SLOTS, batch_s=0.5)
    runs = []

    def script(phase, group):
        if phase == "stream" and group.streams and group.streams[-1].elapsed_s() > 3.5 * HOUR:
            runs[0].stop.request(KeyboardInterrupt())
            group.reservation.closed.wait()

    reservation.script = script
    runs.append(FakeRun(*WORDS, "workers=1", reservation=reservation))
    with pytest.raises(KeyboardInterrupt):
        runs[0].execute()
    (row,) = runs[0].rows
    assert row["status"] == "interrupted"
    assert row["window_s"] == pytest.approx(3.5 * HOUR, abs=60)
    assert row["items_per_s"] == pytest.approx(16.0, rel=1e-3)
    assert [event.interval for event in intervals(runs[0]) if event.rows] == [0, 1, 2, 3]


def test_a_soak_that_fails_in_its_warm_up_is_tried_again():
    finished = run("workers=1", reservation=FakeReservation(
        SLOTS, batch_s=0.5, script=fails(WorkerDied, "stream", times=1)
    ))  # fmt: skip
    assert [row["status"] for row in finished.rows] == ["ok"]
    assert finished.rows[0]["attempts"] == 2


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("results.samples=all", "results.samples=all needs these times"),
        ("load=poisson(100)", "open loop needs these times"),
        ("instances=2", "instances above 1 needs these times"),
        ("measure.row_every_s=5", "below measure.block_s=10"),
        ("measure.max_s=10000000 measure.block_s=1 measure.row_every_s=1", "over 100,000 rows"),
    ],
)
def test_what_a_soak_cannot_give_is_refused_in_one_line(word, said):
    words = [w for w in WORDS if w.split("=")[0] not in word] + word.split()
    with pytest.raises(ConfigError, match=said):
        read(["engine=simulated", "model=alexnet", *words]).resolve({"cpu": 1})

"""Whole runs without Ray: retries, lost devices, interrupts, reuse of workers."""

import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from helpers.fake_runs import SLOTS, FakeRun, FakeStoreRun
from helpers.fake_workers import FakeReservation, FakeStream, concerning, fails, loses_node

from raybench.errors import (
    EngineFailure,
    NodeDied,
    OutOfMemory,
    PhaseTimeout,
    ResultsError,
    Unsupported,
    UsageError,
    WorkerDied,
)
from raybench.execute.events import (
    AttemptEnded,
    Note,
    PhaseChanged,
    ProgressUpdated,
    RowWritten,
    Ticked,
    TrialSkipped,
    TrialStarted,
)
from raybench.execute.runner import LOST


def run(*words, script=None, **options):
    """Run the words on four GPUs whose workers follow a script."""
    reservation = options.pop("reservation", None) or FakeReservation(SLOTS)
    if script is not None:
        reservation.script = script
    return FakeRun(*words, reservation=reservation, **options).execute()


def statuses(finished):
    return [(row["batch_size"], row["status"]) for row in finished.rows]


def used(finished, word="start"):
    return [slot for call, slot in finished.reservation.calls if call == word]


# --- what a run gives ------------------------------------------------------------------------------


def test_a_run_gives_a_row_with_the_rate_of_all_workers_for_every_trial():
    finished = run("workers=2", "batch_size=[8,16]", "trials=2")
    assert finished.tally == {"ok": 4}
    assert sorted(statuses(finished)) == [(8, "ok")] * 2 + [(16, "ok")] * 2
    for row in finished.rows:
        assert row["items_per_s"] == pytest.approx(2 * row["batch_size"] / 0.01, rel=1e-6)
        assert (row["attempts"], row["n_nodes"], row["fresh_processes"]) == (1, 1, True)
    tables = finished.store.tables[0]
    assert [worker["worker"] for worker in tables["workers"]] == [0, 1]
    assert {block["phase"] for block in tables["blocks"]} == {"warmup", "measure"}
    assert (tables["samples"], tables["layers"]) == ((), [])


def test_a_trial_goes_through_its_phases_and_reports_progress_between():
    finished = run("workers=1", "batch_size=8", "results.layers=true")
    phases = [event.phase for event in finished.announced(PhaseChanged)]
    assert list(dict.fromkeys(phases)) == ["start", "prepare", "warm-up", "measure", "layers"]
    (started,) = finished.announced(TrialStarted)
    assert started.planned.point.batch_size == 8
    last = finished.announced(ProgressUpdated)[-1].progress
    assert last.items_per_s == pytest.approx(800)
    *_, ended, written = [e for e in finished.events if not isinstance(e, Ticked)]
    assert (type(ended), type(written)) == (AttemptEnded, RowWritten)
    (tables,) = finished.store.tables
    assert [layer["time_frac"] for layer in tables["layers"]] == pytest.approx([2 / 3, 1 / 3])


def test_raw_latencies_are_stored_on_request():
    finished = run("workers=2", "batch_size=8", "results.samples=all")
    samples = finished.store.tables[0]["samples"]
    assert {sample["worker"] for sample in samples} == {0, 1}
    assert len(samples) >= finished.rows[0]["latency_n"]
    assert {sample["latency_ns"] for sample in samples} == {10_000_000}


def test_a_profile_that_fails_costs_no_row():
    script = fails(EngineFailure, "layers")
    finished = run("workers=1", "batch_size=8", "results.layers=true", script=script)
    assert statuses(finished) == [(8, "ok")]
    assert finished.store.tables[0]["layers"] == []
    assert finished.rows[0]["notes"] == ["The layers were not timed: broken in layers"]


def test_telemetry_that_fails_costs_no_row_and_is_named(monkeypatch):
    finish = FakeStream.finish

    def without_readings(stream):
        measurements, clocks = finish(stream)
        readings = replace(measurements[0].readings, failures=("Readings ended early: odd",))
        return [replace(each, readings=readings) for each in measurements], clocks

    monkeypatch.setattr(FakeStream, "finish", without_readings)
    finished = run("workers=2", "batch_size=8")
    assert statuses(finished) == [(8, "ok")]
    assert finished.rows[0]["notes"] == ["Readings ended early: odd"]


def test_final_trials_are_skipped_and_counted_and_infeasible_points_get_a_row():
    finished = run("workers=[1,8]", "batch_size=8", "trials=2", finals={(8, 0): "ok"})
    (skipped,) = finished.announced(TrialSkipped)
    assert (skipped.status, skipped.planned.trial) == ("ok", 0)
    assert finished.tally == {"ok": 2, "infeasible": 2}
    reasons = {row["reason"] for row in finished.rows if row["status"] == "infeasible"}
    assert all("needs 8 GPUs and the cluster has 4" in reason for reason in reasons)


def test_only_as_many_devices_are_reserved_as_can_be_used():
    assert run("workers=[1,2]", "batch_size=8").requested == {"gpu": 2}
    assert run("workers=1", "batch_size=8", "cluster.isolation=gpu").requested == {"gpu": 4}


# --- failures --------------------------------------------------------------------------------------


def test_a_trial_whose_worker_dies_is_measured_again_on_other_devices():
    finished = run("workers=2", "batch_size=8", script=fails(WorkerDied, "stream", times=1))
    (row,) = finished.rows
    assert (row["status"], row["attempts"]) == ("ok", 2)
    first, second = finished.reservation.groups
    assert not set(first.slots[:1]) & set(second.slots)
    (note,) = finished.announced(Note)
    assert note.text == "[1] worker_died, tried again: broken in stream"


@pytest.mark.parametrize("retries", [0, 2])
def test_a_trial_is_tried_no_more_often_than_the_settings_allow(retries):
    script = fails(WorkerDied, "prepare")
    finished = run("workers=1", "batch_size=8", f"cluster.retries={retries}", script=script)
    assert finished.tally == {"worker_died": 1}
    assert finished.rows[0]["attempts"] == len(finished.reservation.groups) == retries + 1


def test_what_would_fail_again_is_tried_once():
    script = fails(Unsupported, "prepare")
    finished = run("workers=1", "batch_size=8", "cluster.retries=3", script=script)
    assert (finished.rows[0]["status"], finished.rows[0]["attempts"]) == ("unsupported", 1)


def test_a_stall_is_a_timeout_and_the_rest_is_measured():
    reservation = FakeReservation(SLOTS, hang_at_s=0.3)

    def only_the_first(phase, group):
        group.reservation.hang_at_s = 0.3 if group.point.batch_size == 8 else None

    words = ("workers=1", "batch_size=[8,16]", "cluster.retries=0", "cluster.stall_timeout_s=5")
    finished = run(*words, reservation=reservation, script=only_the_first)
    assert sorted(statuses(finished)) == [(8, "timeout"), (16, "ok")]
    (reason,) = [row["reason"] for row in finished.rows if row["reason"]]
    assert "No batch was completed for 5 s" in reason


def test_streams_that_end_before_there_is_a_number_are_refused():
    reservation = FakeReservation(SLOTS, end_at_s=0.01)
    finished = run("workers=1", "batch_size=8", reservation=reservation)
    (row,) = finished.rows
    assert (row["status"], row["attempts"]) == ("failed", 1)
    assert "batches are too slow for this preset" in row["reason"]


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (UsageError("The cache cannot be written."), "The cache cannot be written."),
        (KeyError("bug"), "raybench failed with an internal error: KeyError"),
    ],
)
def test_an_exception_of_any_kind_is_a_row_and_the_grid_goes_on(raised, reason, caplog):
    def script(phase, group):
        if group.point.batch_size == 8:
            raise raised

    finished = run("workers=1", "batch_size=[8,16]", script=script)
    assert sorted(statuses(finished)) == [(8, "failed"), (16, "ok")]
    assert any(reason in row["reason"] for row in finished.rows if row["reason"])
    assert bool(caplog.records) == isinstance(raised, KeyError)


@pytest.mark.parametrize("phase", ["start", "prepare", "stream", "finish"])
def test_after_a_failure_in_any_phase_the_workers_are_stopped(phase):
    finished = run(
        "workers=2", "batch_size=8", "cluster.retries=0", script=fails(WorkerDied, phase)
    )
    assert finished.tally == {"worker_died": 1}
    assert set(used(finished, "stop")) >= set(finished.reservation.groups[0].slots)
    assert finished.reservation.workers == {}


# --- devices and nodes -----------------------------------------------------------------------------


def test_a_device_that_is_blamed_twice_is_set_aside_and_named():
    bad = SLOTS[0]

    def script(phase, group):
        if phase == "prepare" and group.slots == (bad,):
            raise concerning(WorkerDied("broken"), 0)

    finished = run("workers=1", "batch_size=[1,2,4,8,16]", script=script)
    assert finished.tally == {"ok": 5}
    notes = [note.text for note in finished.announced(Note)]
    assert f"No longer used: {bad} was set aside after 2 failures." in notes
    assert used(finished).count(bad) == 2


def test_a_dead_node_is_named_and_what_needs_it_is_lost():
    script = loses_node("a", "stream")
    finished = run("workers=[2,4]", "batch_size=8", script=script)
    by_workers = {row["workers"]: row for row in finished.rows}
    assert by_workers[2]["status"] == "ok"
    assert by_workers[4]["status"] == "infeasible"
    assert "node host-a with 2 devices went away" in by_workers[4]["reason"]
    assert finished.tally == {"ok": 1, "infeasible": 1, LOST: 1}


def test_workers_of_a_dead_node_become_node_died_with_its_host():
    finished = run(
        "workers=1", "batch_size=8", "cluster.retries=0", script=loses_node("a", "prepare")
    )
    (row,) = finished.rows
    assert (row["status"], row["reason"]) == (
        "node_died",
        "Node host-a went away. Look at that machine.",
    )


def test_devices_that_did_not_become_free_are_named_in_the_row():
    reservation = FakeReservation(SLOTS[:1], busy="3 devices did not become free in 60 s.")
    finished = run("workers=[1,2]", "batch_size=8", reservation=reservation)
    by_workers = {row["workers"]: (row["status"], row["reason"]) for row in finished.rows}
    assert by_workers[1] == ("ok", None)
    assert by_workers[2] == ("timeout", "3 devices did not become free in 60 s.")


# --- memory ----------------------------------------------------------------------------------------


def runs_out_above(batch_size):
    def script(phase, group):
        if phase == "prepare" and group.point.batch_size > batch_size:
            raise OutOfMemory("load", 32 << 20, "full")

    return script


def test_larger_batches_than_one_that_ran_out_of_memory_are_infeasible():
    finished = run("workers=1", "batch_size=[8,16,32]", script=runs_out_above(8))
    assert sorted(statuses(finished)) == [(8, "ok"), (16, "out_of_memory"), (32, "infeasible")]
    assert len(finished.reservation.groups) == 2
    (row,) = [row for row in finished.rows if row["status"] == "out_of_memory"]
    assert (row["oom_stage"], row["oom_requested_bytes"], row["attempts"]) == ("load", 32 << 20, 1)
    assert "32 MiB" in row["reason"]


def test_memory_that_ran_out_in_an_earlier_run_is_remembered():
    finished = run("workers=1", "batch_size=[16,32]", finals={(16, 0): "out_of_memory"})
    assert statuses(finished) == [(32, "infeasible")]
    assert finished.reservation.groups == []


def test_the_largest_batch_is_found_by_probes_that_leave_no_row():
    finished = run("workers=1", "batch_size=max", script=runs_out_above(11))
    (row,) = finished.rows
    assert (row["status"], row["batch_size"]) == ("ok", 11)
    assert "batch_size=12 does not fit: Out of memory at stage 'load'" in row["notes"][-1]
    probed = [group.point.batch_size for group in finished.reservation.groups]
    assert probed == [1, 2, 4, 8, 16, 12, 10, 11, 11]


# --- preparation -----------------------------------------------------------------------------------

ON_CPU = ("device=cpu", "engine=onnxruntime", "precision=[fp32,int8]", "workers=1")


def on_cores(*words, script=None):
    slots = [type(SLOTS[0])("cpu", "a", number) for number in (0, 1)]
    reservation = FakeReservation(slots)
    return run(*ON_CPU, "cluster.isolation=gpu", *words, reservation=reservation, script=script)


def test_graphs_are_built_on_all_devices_before_anything_is_measured():
    finished = on_cores("batch_size=[1,2]")
    purposes = [event.planned.purpose for event in finished.announced(TrialStarted)]
    assert purposes == ["prepare"] * 2 + ["measure"] * 4
    assert finished.tally == {"ok": 4}
    built = [group for group in finished.reservation.groups if "build" in group.phases]
    assert {group.point.precision for group in built} == {"fp32", "int8"}
    assert len({group.slots for group in built}) == 2


def test_a_preparation_that_fails_leaves_the_error_to_the_trials():
    finished = on_cores("batch_size=1", script=fails(EngineFailure, "build"))
    assert finished.tally == {"ok": 2}
    assert finished.announced(Note) == []


@pytest.mark.parametrize(
    ("node_kinds", "copies"),
    [({"a": "h100", "b": "h100"}, [{"a", "b"}]), ({"a": "h100", "b": "a100"}, [{"a"}, {"b"}])],
)
def test_an_engine_plan_is_built_once_for_each_kind_of_node_and_copied(node_kinds, copies):
    finished = run("engine=tensorrt", "workers=1", "batch_size=8", node_kinds=node_kinds)
    built = [group.built_for for group in finished.reservation.groups if "build" in group.phases]
    assert sorted(built, key=sorted) == copies
    assert finished.tally == {"ok": 1}


@pytest.mark.parametrize(
    ("word", "cores", "at_once"),
    [
        ("cluster.builds_per_gpu=4", 64, 4),
        ("cluster.builds_per_gpu=2", 64, 2),
        ("cluster.builds_per_gpu=4", 8, 2),  # 4 GPUs
    ],
)
def test_several_plans_are_built_at_once_on_a_gpu_before_it_measures(word, cores, at_once):
    reservation = FakeReservation(SLOTS[:1])
    building, most = set(), [0]

    def script(phase, group):
        if phase == "build":
            building.add(group)
            most[0] = max(most[0], len(building))
            threading.Event().wait(0.02)
            building.discard(group)
        if phase == "measure":
            assert not building
            assert group.slots[0].parts == 1

    words = ("engine=tensorrt", "workers=1", "batch_size=[1,2,4,8,16,32]", word)
    finished = run(*words, reservation=reservation, script=script, cores=cores)
    built = [group for group in reservation.groups if "build" in group.phases]
    assert len(built) == 6
    assert {group.slots[0].part for group in built} == set(range(at_once))
    assert most[0] <= at_once
    assert finished.tally == {"ok": 6}
    stopped = [slot for call, slot in reservation.calls if call == "stop"]
    assert {slot.part for slot in stopped if slot.parts == at_once} == set(range(at_once))


def test_builds_spread_over_the_gpus_before_they_share_one():
    finished = run(
        *("engine=tensorrt", "workers=1", "batch_size=[1,2,4,8]"),
        cores=64,
        script=lambda phase, _: threading.Event().wait(0.02 * (phase == "build")),
    )
    built = [group.slots[0] for group in finished.reservation.groups if "build" in group.phases]
    assert {slot.whole for slot in built} == set(SLOTS)


def test_a_build_that_dies_beside_others_costs_its_own_point_alone():
    finished = run(
        *("engine=tensorrt", "workers=1", "batch_size=[1,2,4,8]"),
        reservation=FakeReservation(SLOTS[:1]),
        script=fails(WorkerDied, "build", on=SLOTS[0].divided(4)[1], times=1),
        cores=64,
    )
    assert finished.tally == {"ok": 4}


@pytest.mark.parametrize(("isolation", "sharers"), [("gpu", {"a": 2, "b": 2}), ("node", {"a": 1})])
def test_workers_share_memory_with_those_of_other_points_that_may_run(isolation, sharers):
    finished = run("workers=1", "batch_size=8", f"cluster.isolation={isolation}")
    assert finished.reservation.groups[0].sharers == sharers


# --- kept processes --------------------------------------------------------------------------------


def kept(device, *words, script=None):
    slot = type(SLOTS[0])(device, "a", 0)
    words = (f"device={device}", "workers=1", *words, "cluster.processes=kept")
    return run(*words, reservation=FakeReservation([slot]), script=script)


def test_kept_workers_are_reused_within_a_round_and_never_by_another_trial():
    finished = kept("cpu", "batch_size=[8,16]", "trials=2")
    assert [row["fresh_processes"] for row in finished.rows] == [True, False, True, False]
    pids = Counter(group.pids[0] for group in finished.reservation.groups)
    assert list(pids.values()) == [2, 2]


def test_workers_of_gpus_are_never_reused():
    finished = kept("gpu", "batch_size=[8,16]")
    assert [row["fresh_processes"] for row in finished.rows] == [True, True]


def test_kept_workers_are_stopped_after_a_failure():
    finished = kept("cpu", "batch_size=8", script=fails(WorkerDied, "stream", times=1))
    assert [group.fresh for group in finished.reservation.groups] == [True, True]
    assert used(finished, "stop")[0] == finished.reservation.groups[0].slots[0]


# --- stopping --------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["start", "prepare", "measure", "stream", "finish"])
def test_an_interrupt_in_any_phase_keeps_rows_and_frees_the_devices(phase):
    interrupted = FakeRun("workers=1", "batch_size=[8,16,32]")

    def script(now, group):
        if group.point.batch_size == 16 and now == phase:
            interrupted.stop.request(KeyboardInterrupt())
            assert group.reservation.closed.wait(300)  # as a worker that is killed
            raise concerning(WorkerDied("killed"), 0)

    interrupted.reservation.script = script
    with pytest.raises(KeyboardInterrupt):
        interrupted.execute()
    assert statuses(interrupted)[-1] == (16, "interrupted")
    assert {status for _, status in statuses(interrupted)[:-1]} <= {"ok"}
    assert (32, "ok") not in statuses(interrupted)
    assert interrupted.reservation.workers == {}


def test_what_finishes_while_the_run_is_interrupted_is_kept():
    interrupted = FakeRun("workers=1", "batch_size=[8,16]", "cluster.isolation=gpu")

    def script(phase, group):
        if phase == "prepare" and group.point.batch_size == 16:
            while not used(interrupted, "stop"):  # the other trial has been measured
                time.sleep(0.001)
            interrupted.stop.request(KeyboardInterrupt())
            assert group.reservation.closed.wait(300)

    interrupted.reservation.script = script
    with pytest.raises(KeyboardInterrupt):
        interrupted.execute()
    assert sorted(statuses(interrupted)) == [(8, "ok"), (16, "interrupted")]


def test_a_signal_before_the_first_attempt_starts_nothing():
    interrupted = FakeRun("workers=1", "batch_size=8")
    interrupted.stop.request(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        interrupted.execute()
    assert interrupted.reservation.groups == []


def test_a_full_disk_stops_the_run_and_marks_nothing_as_interrupted():
    store = FakeStoreRun(fails_at=2, error=ResultsError("No space left on device."))
    stopped = FakeRun("workers=1", "batch_size=[1,2,4,8,16,32,64,128]", store=store)

    def waits_for_the_writer(phase, group):
        if phase == "start" and len(group.reservation.groups) > 2:
            assert group.reservation.closed.wait(300)

    stopped.reservation.script = waits_for_the_writer
    with pytest.raises(ResultsError, match="No space left"):
        stopped.execute()
    assert "interrupted" not in {row["status"] for row in stopped.rows}
    assert len(stopped.rows) <= 3


def test_points_share_a_node_only_where_the_isolation_allows_it():
    started, together = threading.Barrier(4), []

    def script(phase, group):
        if phase == "prepare":
            started.wait(300)
            together.append(group.slots[0])

    run("workers=1", "batch_size=[1,2,4,8]", "cluster.isolation=gpu", script=script)
    assert set(together) == set(SLOTS)


def test_a_timeout_of_a_dead_node_is_reported_as_the_node():
    def script(phase, group):
        if phase == "prepare" and group.slots[0].node == "a":
            group.reservation.dead_nodes.add("a")
            raise concerning(PhaseTimeout("Phase 'prepare' did not end."), 0)

    finished = run("workers=1", "batch_size=8", script=script)
    assert (finished.rows[0]["status"], finished.rows[0]["attempts"]) == ("ok", 2)
    assert NodeDied.status in finished.announced(Note)[0].text

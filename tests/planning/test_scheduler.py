from dataclasses import replace

from helpers.plans import expanded

from raybench.errors import NodeDied, OutOfMemory, Unsupported, WorkerDied
from raybench.planning.plan import PlannedTrial, order_trials
from raybench.planning.scheduler import Scheduler, SchedulingPolicy
from raybench.planning.slots import DeviceSlot

SLOTS = [DeviceSlot("gpu", node, number) for node in ("a", "b") for number in (0, 1)]


def scheduler_of(*words, isolation="gpu", retries=1, **earlier):
    experiment, points = expanded("model=alexnet", "trials=1", *words)
    trials = order_trials(experiment, points, {"gpu": 4}, isolation).trials
    return Scheduler(trials, SLOTS, SchedulingPolicy(isolation, retries), **earlier)


def start_all(scheduler):
    """Attempts that can start now."""
    attempts = []
    while (attempt := scheduler.next_attempt()) is not None:
        attempts.append(attempt)
    return attempts


def finish(scheduler, error_of=lambda attempt: None):
    """Run everything to its end; gives the outcomes, by (workers, batch size, largest)."""
    outcomes = []
    while attempts := start_all(scheduler):
        for attempt in attempts:
            outcomes += scheduler.end(attempt, error_of(attempt))
    keys = [(o.planned.point.id, o.planned.trial) for o in outcomes]
    assert len(keys) == len(set(keys))
    return outcomes


def failure(kind, *ranks):
    error = kind("broken")
    error.ranks = ranks
    return error


def out_of_memory(largest, probes_only=False):
    """Let batches above a size run out of memory."""

    def error_of(attempt):
        planned = attempt.planned
        fits = planned.point.batch_size <= largest or (probes_only and planned.purpose != "fit")
        return None if fits else OutOfMemory("load", None, "full")

    return error_of


def test_isolation_says_how_many_points_run_at_once():
    words = ("workers=1", "batch_size=[1,2,4,8,16]")
    assert len(start_all(scheduler_of(*words, isolation="cluster"))) == 1
    by_node = start_all(scheduler_of(*words, isolation="node"))
    assert len({attempt.slots[0].node for attempt in by_node}) == len(by_node) == 2
    by_device = start_all(scheduler_of(*words, isolation="gpu"))
    assert len({attempt.slots[0] for attempt in by_device}) == len(by_device) == 4


def test_a_failure_is_tried_again_on_another_device():
    scheduler = scheduler_of("workers=1")
    (first,) = start_all(scheduler)
    assert scheduler.end(first, failure(WorkerDied, 0)) == []
    (second,) = start_all(scheduler)
    assert second.number == 2
    assert second.slots != first.slots
    (outcome,) = scheduler.end(second, failure(WorkerDied, 0))
    assert outcome.attempts == 2


def test_what_would_fail_again_is_not_tried_again():
    (outcome,) = finish(scheduler_of("workers=1"), lambda attempt: Unsupported("no"))
    assert (outcome.attempts, outcome.error.status) == (1, "unsupported")


def test_a_device_that_fails_twice_where_others_do_not_is_set_aside_and_named():
    bad = SLOTS[0]
    scheduler = scheduler_of("workers=[1,4]", "batch_size=[1,2,4,8,16,32]", isolation="cluster")
    outcomes = finish(
        scheduler, lambda attempt: failure(WorkerDied, 0) if attempt.slots == (bad,) else None
    )
    assert len(outcomes) == 12
    assert scheduler.removed_devices == (f"{bad} was set aside after 2 failures",)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    assert all(o.planned.point.workers == 4 and str(bad) in str(o.error) for o in failed)


def test_a_dead_node_takes_its_slots_along_and_what_no_longer_fits_says_so():
    scheduler = scheduler_of("workers=[2,4]", isolation="cluster")
    (attempt,) = start_all(scheduler)
    outcomes = scheduler.end(attempt, failure(NodeDied, len(attempt.slots) - 1))
    outcomes += finish(scheduler)
    errors = {outcome.planned.point.workers: outcome.error for outcome in outcomes}
    assert errors[2] is None
    assert errors[4].status == "infeasible"
    assert errors[4].devices_lost
    assert "went away" in str(errors[4])


def test_larger_batches_of_a_series_are_not_tried_after_one_ran_out_of_memory():
    scheduler = scheduler_of("workers=1", "batch_size=[1,2,4,8]", isolation="cluster")
    outcomes = finish(scheduler, out_of_memory(2))
    statuses = {o.planned.point.batch_size: o.error and o.error.status for o in outcomes}
    assert statuses == {1: None, 2: None, 4: "out_of_memory", 8: "infeasible"}


def test_a_chance_failure_of_a_batch_that_would_not_have_fitted_is_no_failure():
    """While the larger batch hung, the smaller one ran out of memory: there is nothing to try again."""
    scheduler = scheduler_of("workers=1", "batch_size=[4,8]", isolation="gpu")
    running = {attempt.planned.point.batch_size: attempt for attempt in start_all(scheduler)}
    scheduler.end(running[4], OutOfMemory("load", None, "full"))
    (outcome,) = scheduler.end(running[8], failure(WorkerDied, 0))
    assert (outcome.error.status, outcome.attempts) == ("infeasible", 1)
    assert "batch_size=4 of this series ran out of memory" in str(outcome.error)


def test_the_largest_batch_is_searched_once_and_measured_in_every_trial():
    scheduler = scheduler_of("workers=1", "batch_size=max", "trials=2", isolation="gpu")
    probes = []

    def error_of(attempt):
        if attempt.planned.purpose == "fit":
            probes.append(attempt.planned.point.batch_size)
        return out_of_memory(11)(attempt)

    outcomes = finish(scheduler, error_of)
    measured = [outcome.planned for outcome in outcomes if outcome.error is None]
    assert sorted((p.point.batch_size, p.trial) for p in measured) == [(11, 0), (11, 1)]
    assert len({planned.point.id for planned in measured}) == 1
    assert len(probes) == len(set(probes)) < 10


def test_a_search_says_what_did_not_fit_and_leaves_the_same_batch_of_the_grid_alone():
    scheduler = scheduler_of("workers=1", "batch_size=[4,max]", isolation="cluster")
    outcomes = finish(scheduler, out_of_memory(6, probes_only=True))
    by_kind = {outcome.planned.point.largest: outcome for outcome in outcomes}
    assert by_kind[False].attempts == by_kind[True].attempts == 1
    assert by_kind[True].planned.point.batch_size == 6
    assert by_kind[True].note.startswith("batch_size=7 does not fit: Out of memory at stage 'load'")
    assert by_kind[False].note is None


def test_a_largest_batch_that_fails_when_measured_gives_way_to_a_smaller_one():
    scheduler = scheduler_of("workers=1", "batch_size=max", isolation="cluster")

    def error_of(attempt):
        largest = 8 if attempt.planned.purpose == "fit" else 5
        return out_of_memory(largest)(attempt)

    (outcome,) = finish(scheduler, error_of)
    assert outcome.error is None
    assert outcome.planned.point.batch_size <= 5


def test_there_is_no_largest_batch_where_one_item_does_not_fit():
    scheduler = scheduler_of("workers=1", "batch_size=max", "trials=2", isolation="cluster")
    assert [o.error.status for o in finish(scheduler, out_of_memory(0))] == ["out_of_memory"] * 2
    scheduler = scheduler_of("workers=1", "batch_size=[1,max]", isolation="cluster")
    statuses = {
        o.planned.point.largest: o.error.status for o in finish(scheduler, out_of_memory(0))
    }
    assert statuses == {False: "out_of_memory", True: "infeasible"}


def test_a_search_whose_devices_go_away_ends_as_infeasible():
    scheduler = scheduler_of("workers=4", "batch_size=max", isolation="cluster")
    (probe,) = start_all(scheduler)
    outcomes = scheduler.end(probe, failure(NodeDied, 3))
    assert [outcome.error.status for outcome in outcomes] == ["infeasible"]
    assert start_all(scheduler) == []


def test_devices_that_others_use_are_a_timeout_and_not_infeasible():
    _, points = expanded("model=alexnet", "workers=8", devices={"gpu": 8})
    trials = [PlannedTrial(points[0], 0, 0)]
    scheduler = Scheduler(trials, SLOTS, SchedulingPolicy(), busy="4 devices did not become free.")
    assert [outcome.error.status for outcome in scheduler.drop_impossible()] == ["timeout"]


def test_a_point_takes_only_devices_of_its_type():
    experiment, points = expanded(
        "model=alexnet", "trials=1", "workers=2", "accelerator=[A100,H100]"
    )
    devices = {"gpu": 4, "gpu/A100": 2, "gpu/H100": 2}
    slots = [
        DeviceSlot("gpu", node, number, accelerator=kind)
        for node, kind in (("a", "A100"), ("b", "H100"))
        for number in (0, 1)
    ]
    trials = order_trials(experiment, points, devices, "gpu").trials
    scheduler = Scheduler(trials, slots, SchedulingPolicy("gpu", 1))
    chosen = {attempt.planned.point.accelerator: attempt.slots for attempt in start_all(scheduler)}
    assert chosen == {"A100": tuple(slots[:2]), "H100": tuple(slots[2:])}
    scheduler.end(scheduler.running[0], failure(NodeDied, 0, 1))
    assert start_all(scheduler) == []  # the other type does not replace it


def test_pairs_are_of_devices_of_their_type():
    words = ("model=alexnet", "trials=1", "workers=2", "accelerator=[A100,H100]")
    experiment, points = expanded(*words, "scaling.baseline=pairs")
    devices = {"gpu": 5, "gpu/A100": 2, "gpu/H100": 3}
    slots = [
        DeviceSlot("gpu", "a", number, accelerator=kind)
        for number, kind in enumerate(("A100", "A100", "H100", "H100", "H100"))
    ]
    trials = order_trials(experiment, points, devices, "gpu").trials
    scheduler = Scheduler(trials, slots, SchedulingPolicy("gpu"))
    pairs = []
    finish(scheduler, lambda attempt: pairs.append(tuple(slot.number for slot in attempt.slots)))
    assert sorted(pairs) == [(0, 1), (2, 3), (2, 4), (3, 4)]


def test_a_trial_of_one_device_waits_for_it_and_takes_another_only_when_it_is_gone():
    words = ("workers=1", "scaling.baseline=solo")
    scheduler = scheduler_of(*words, isolation="gpu")
    slots = {attempt.planned.devices[0]: attempt.slots[0] for attempt in start_all(scheduler)}
    assert slots == dict(enumerate(SLOTS))
    scheduler = scheduler_of(*words, isolation="cluster")
    used = []
    finish(scheduler, lambda attempt: used.append((attempt.planned.devices[0], attempt.slots[0])))
    assert sorted(used, key=lambda pair: pair[0]) == list(enumerate(SLOTS))
    scheduler = scheduler_of(*words, isolation="cluster")
    (first,) = start_all(scheduler)
    scheduler.end(first, failure(NodeDied, 0))
    used = []
    finish(scheduler, lambda attempt: used.append(attempt.slots[0].node))
    assert used
    assert first.slots[0].node not in used


def test_a_trial_that_is_tried_again_on_other_devices_lets_others_pass():
    """What it waited before its first attempt is past: free devices do not wait for it."""
    sizes = str(list(range(1, 21))).replace(" ", "")
    _, points = expanded("model=alexnet", "workers=[1,3]", f"batch_size={sizes}")
    narrow = [point for point in points if point.workers == 1]
    wide = next(point for point in points if point.workers == 3)
    order = [*narrow[:2], wide, *narrow[2:]]
    trials = [PlannedTrial(point, index, 0, index) for index, point in enumerate(order)]
    scheduler = Scheduler(trials, SLOTS, SchedulingPolicy("gpu", 1))
    start_all(scheduler)
    while wide not in [attempt.planned.point for attempt in scheduler.running]:
        scheduler.end(scheduler.running[0], None)
        start_all(scheduler)
    _, failed = scheduler.running
    scheduler.end(failed, failure(WorkerDied, 0))
    passing = start_all(scheduler)
    assert len(passing) == len(SLOTS) - 1
    assert wide not in [attempt.planned.point for attempt in passing]


def test_a_preparation_that_can_no_longer_run_has_no_outcome():
    experiment, points = expanded("model=[alexnet,googlenet]", "trials=1")
    trials = order_trials(experiment, points, {"gpu": 4}, "gpu").trials
    waiting = [replace(t, purpose="prepare") for t in trials if t.point.workers == 1][:2]
    assert len(waiting) == 2
    scheduler = Scheduler(waiting, SLOTS[:1], SchedulingPolicy("gpu"))
    attempt = scheduler.next_attempt()
    assert scheduler.end(attempt, failure(NodeDied, 0)) == []
    assert scheduler.next_attempt() is None

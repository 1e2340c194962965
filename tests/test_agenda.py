from test_schedule import made

from raybench.errors import NodeDied, OutOfMemory, Unsupported, WorkerDied
from raybench.planning.plan import PlannedTrial, plan
from raybench.planning.scheduler import Scheduler
from raybench.planning.slots import DeviceSlot, pick

SEATS = [DeviceSlot("gpu", node, number) for node in ("a", "b") for number in (0, 1)]


def agenda(*words, isolation="gpu", retries=1):
    experiment, points = made("model=alexnet", "trials=1", *words)
    steps = plan(experiment, points, {"gpu": 4}, isolation).steps
    return Scheduler(steps, SEATS, isolation, retries)


def started(made):
    found = []
    while (start := made.next()) is not None:
        found.append(start)
    return found


def failure(kind, *ranks):
    error = kind("broken")
    error.ranks = ranks
    return error


def test_isolation_says_how_many_points_run_at_once():
    words = ("workers=1", "batch_size=[1,2,4,8,16]")
    assert len(started(agenda(*words, isolation="cluster"))) == 1
    by_node = started(agenda(*words, isolation="node"))
    assert len({start.seats[0].node for start in by_node}) == len(by_node) == 2
    by_device = started(agenda(*words, isolation="gpu"))
    assert len({start.seats[0] for start in by_device}) == len(by_device) == 4


def test_a_failure_is_tried_again_elsewhere_and_an_outcome_is_not():
    tried = agenda("workers=1")
    (first,) = started(tried)
    assert tried.end(first, failure(WorkerDied, 0)) == []
    (second,) = started(tried)
    assert second.attempt == 2
    assert second.seats != first.seats
    (settled,) = tried.end(second, failure(WorkerDied, 0))
    assert settled.attempts == 2
    other = agenda("workers=1")
    (start,) = started(other)
    (settled,) = other.end(start, Unsupported("no"))
    assert settled.attempts == 1


def test_a_device_that_fails_twice_where_others_do_not_is_set_aside_and_named():
    made = agenda("workers=[1,4]", "batch_size=[1,2,4,8,16,32]", isolation="cluster")
    bad, settled = SEATS[0], []
    for _ in range(40):
        (start,) = started(made) or (None,)
        if start is None:
            break
        struck = start.seats.index(bad) if bad in start.seats and len(start.seats) == 1 else None
        error = None if struck is None else failure(WorkerDied, struck)
        settled += made.end(start, error)
    assert len(settled) == 12
    assert len({(s.step.point.id, s.step.trial) for s in settled}) == 12
    refused = [s for s in settled if s.error is not None]
    assert all(s.step.point.workers == 4 and str(bad) in str(s.error) for s in refused)


def test_a_lost_node_takes_its_seats_and_what_no_longer_fits_says_so():
    made = agenda("workers=[2,4]", isolation="cluster", retries=1)
    settled = []
    (start,) = started(made)
    settled += made.end(start, failure(NodeDied, len(start.seats) - 1))
    while more := started(made):
        settled += made.end(more[0], None)
    found = {s.step.point.workers: s.error for s in settled}
    assert found[2] is None
    assert found[4].status == "infeasible"
    assert found[4].lost
    assert "went away" in str(found[4])


def test_larger_batches_of_a_series_are_not_tried_after_one_ran_out_of_memory():
    made = agenda("workers=1", "batch_size=[1,2,4,8]", isolation="cluster")
    settled = []
    while more := started(made):
        size = more[0].step.point.batch_size
        settled += made.end(more[0], OutOfMemory("load", None, "full") if size >= 4 else None)
    found = {s.step.point.batch_size: s.error and s.error.status for s in settled}
    assert found == {1: None, 2: None, 4: "out_of_memory", 8: "infeasible"}


def test_the_largest_batch_is_found_for_every_trial_and_searched_once():
    made = agenda("workers=1", "batch_size=max", "trials=2", isolation="gpu")
    settled, probes = [], 0
    while more := started(made):
        start = more[0]
        probes += start.step.purpose == "fit"
        full = start.step.purpose == "fit" and start.step.point.batch_size > 11
        settled += made.end(start, OutOfMemory("load", None, "full") if full else None)
        for other in more[1:]:
            settled += made.end(other, None)
    measured = [s.step for s in settled if s.error is None]
    assert [(s.point.batch_size, s.trial) for s in measured] == [(11, 0), (11, 1)]
    assert len({s.point.id for s in measured}) == 1
    assert probes < 10


def test_a_gang_sits_on_as_few_nodes_as_possible():
    free = [SEATS[0], SEATS[2], SEATS[3]]
    assert {seat.node for seat in pick(free, 2)} == {"b"}
    assert pick(free, 1) == (SEATS[0],)
    assert pick(free, 4) is None
    assert len(pick(SEATS, 3)) == 3


def test_a_search_says_what_did_not_fit_and_leaves_the_same_batch_of_the_grid_alone():
    made = agenda("workers=1", "batch_size=[4,max]", isolation="cluster")
    settled = []
    while more := started(made):
        step = more[0].step
        full = step.purpose == "fit" and step.point.batch_size > 6
        settled += made.end(more[0], OutOfMemory("load", 7, "full") if full else None)
    found = {s.step.point.largest: s for s in settled}
    assert len(settled) == 2
    assert found[False].attempts == found[True].attempts == 1
    assert found[True].step.point.batch_size == 6
    assert found[True].note.startswith("batch_size=7 does not fit: Out of memory at stage 'load'")
    assert found[False].note is None


def test_a_search_whose_devices_go_away_ends_as_infeasible():
    made = agenda("workers=4", "batch_size=max", isolation="cluster")
    (probe,) = started(made)
    settled = made.end(probe, failure(NodeDied, 3))
    assert [s.error.status for s in settled] == ["infeasible"]
    assert started(made) == []


def test_spread_takes_one_of_each_node_in_turn():
    more = [*SEATS, DeviceSlot("gpu", "b", 2)]
    assert [str(seat) for seat in pick(more, 2, "spread")] == ["GPU 0 of a", "GPU 0 of b"]
    assert {seat.node for seat in pick(more, 3, "spread")} == {"a", "b"}
    assert len(set(pick(more, 5, "spread"))) == 5
    assert pick(more, 6, "spread") is None


def test_a_point_takes_only_devices_of_its_type():
    experiment, points = made("model=alexnet", "trials=1", "workers=2", "accelerator=[A100,H100]")
    counted = {"gpu": 4, "gpu/A100": 2, "gpu/H100": 2}
    seats = [
        DeviceSlot("gpu", node, number, accelerator=kind)
        for node, kind in (("a", "A100"), ("b", "H100"))
        for number in (0, 1)
    ]
    agenda = Scheduler(plan(experiment, points, counted, "gpu").steps, seats, "gpu", 1)
    found = {start.step.point.accelerator: start.seats for start in started(agenda)}
    assert found == {"A100": tuple(seats[:2]), "H100": tuple(seats[2:])}
    agenda.end(agenda.running[0], failure(NodeDied, 0, 1))
    assert started(agenda) == []  # the other type does not stand in for it


def test_a_step_of_one_device_waits_for_it_and_takes_another_only_when_it_is_gone():
    made = agenda("workers=1", "scaling.baseline=solo", isolation="gpu")
    seats = {start.step.device: start.seats[0] for start in started(made)}
    assert seats == dict(enumerate(SEATS))
    one = agenda("workers=1", "scaling.baseline=solo", isolation="cluster")
    order = []
    while found := started(one):
        order.append((found[0].step.device, found[0].seats[0]))
        one.end(found[0], None)
    assert sorted(order, key=lambda pair: pair[0]) == list(enumerate(SEATS))
    lost = agenda("workers=1", "scaling.baseline=solo", isolation="cluster")
    (first,) = started(lost)
    lost.end(first, failure(NodeDied, 0))
    left = [seat for seat in SEATS if seat.node != first.seats[0].node]
    while found := started(lost):
        assert found[0].seats[0] in left
        lost.end(found[0], None)


def test_a_step_that_is_tried_again_on_other_devices_lets_others_pass():
    """What it had waited before its first start is past: free devices do not wait for it."""
    _, points = made(
        "model=alexnet", "workers=[1,3]", f"batch_size={list(range(1, 21))}".replace(" ", "")
    )
    singles = [point for point in points if point.workers == 1]
    gang = next(point for point in points if point.workers == 3)
    order = [*singles[:2], gang, *singles[2:]]
    steps = [PlannedTrial(point, index, 0, index) for index, point in enumerate(order)]
    tried = Scheduler(steps, SEATS, "gpu", 1)
    started(tried)
    while gang not in [start.step.point for start in tried.running]:
        tried.end(tried.running[0], None)
        started(tried)
    alone, wide = tried.running
    tried.end(wide, failure(WorkerDied, 0))
    passing = started(tried)
    assert len(passing) == len(SEATS) - 1
    assert gang not in [start.step.point for start in passing]
    assert alone in tried.running

"""Streams of a group as the driver follows them, with actors that need no Ray."""

from itertools import count
from types import SimpleNamespace

import pytest

from raybench.cluster import worker_group
from raybench.cluster.worker_group import RayMember, RayWorkerStream, StepQuestions
from raybench.errors import PhaseTimeout
from raybench.measure.clock import Clock
from raybench.planning.slots import DeviceSlot


def member(rank, done=lambda: 0):
    """A worker that has completed `done()` batches and two edges since the last snapshot."""
    asked = []

    def snapshot(seen):
        asked.append(seen)
        return SimpleNamespace(done=done(), edges=[0, 1])

    actor = SimpleNamespace(
        snapshot=SimpleNamespace(remote=snapshot),
        clock_ns=SimpleNamespace(remote=lambda: worker_group.time.perf_counter_ns()),
        halt=SimpleNamespace(remote=lambda: None),
        asked=asked,
    )
    return RayMember(actor, DeviceSlot("gpu", "1", rank), None)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Results of calls are there at once, by a clock that a test moves; it stands at 100 s."""
    monkeypatch.setattr(worker_group, "get_all", lambda calls, *rest: list(calls))
    now = SimpleNamespace(s=100.0)
    clocks = {"monotonic": lambda: now.s, "perf_counter_ns": lambda: int(now.s * 1e9)}
    monkeypatch.setattr(worker_group, "time", SimpleNamespace(**clocks))
    return now


def stream(members, start_s=100.0):
    clocks = [Clock(0, 1000, 0)] * len(members)
    return RayWorkerStream(members, ["records"] * len(members), clocks, int(start_s * 1e9), None)


def test_a_snapshot_asks_only_for_edges_that_are_new():
    members = [member(0), member(1)]
    running = stream(members)
    for _ in range(3):
        running.snapshot(60.0)
    assert [each.actor.asked for each in members] == [[0, 2, 4]] * 2


def test_a_worker_that_completes_nothing_is_named_as_stalled(clock):
    batches = count()
    running = stream([member(0, lambda: next(batches)), member(1)])
    clock.s = 160
    running.snapshot(60)
    clock.s = 160.1
    with pytest.raises(PhaseTimeout, match=r"No batch was completed .* on 1 worker,") as caught:
        running.snapshot(60)
    assert str(caught.value).endswith("Look for a hang, or raise cluster.stall_timeout_s.")
    assert caught.value.ranks == (1,)


def test_the_end_of_a_stream_brings_records_and_both_clocks():
    members = [member(0), member(1)]
    records, clocks = stream(members).finish()
    assert records == ["records", "records"]
    assert [each.before for each in clocks] == [Clock(0, 1000, 0)] * 2
    for each in clocks:  # the workers of this test read the driver's clock
        assert abs(each.after.offset_ns) <= each.after.round_trip_ns


def test_a_worker_is_asked_again_only_when_it_has_answered(monkeypatch):
    said, asked, answered = [], [], []
    doing = SimpleNamespace(remote=lambda: asked.append("step") or f"step {len(asked)}")
    worker = SimpleNamespace(actor=SimpleNamespace(doing=doing))
    monkeypatch.setattr("ray.wait", lambda calls, timeout: (answered, calls))
    monkeypatch.setattr("ray.get", lambda call: (call, "12 of 157"))
    ask = StepQuestions([worker], lambda *answer: said.append(answer))
    ask([0])
    ask([0])
    assert (len(asked), said) == (1, [])
    answered.append("step 1")
    ask([0])
    ask([0])
    assert said == [("step 1", "12 of 157")] * 2
    assert len(asked) == 2


def test_the_end_of_a_slow_stream_may_take_as_long_as_its_batches(monkeypatch):
    waits = []
    monkeypatch.setattr(
        worker_group, "get_all", lambda calls, wait_s, *rest: waits.append(wait_s) or list(calls)
    )
    running = stream([member(0)])
    running.snapshot(4600.0)
    running.finish()
    assert 4600.0 in waits[1:]


def test_time_counts_from_the_common_start(clock):
    running = stream([member(0)], start_s=100.5)
    assert running.elapsed_s() == -0.5
    clock.s = 107.5
    assert running.elapsed_s() == 7

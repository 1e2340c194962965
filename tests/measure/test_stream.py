"""The stream with a simulated engine that advances a simulated clock, so that nothing waits."""

from __future__ import annotations

import gc

import pytest
from helpers.fake_engine import Clock, Engine

from raybench.measure import stream as module
from raybench.measure.stream import SPIN_NS, Stream


def run(inflight: int, batches: int, start: int = 0, deadline: int = 10**18, **engine):
    """A stream that is halted while batch number `batches` - 1 is collected."""
    clock = Clock(now=start)
    fake = Engine(clock, **engine)
    stream = Stream(fake, 8, inflight, clock=clock, sleep=clock.sleep)
    fake.at_collect = lambda sequence: stream.halt() if sequence == batches - 1 else None
    return stream.run(start, deadline), fake, stream


def test_one_in_flight_takes_turns():
    trace, engine, _ = run(1, 3)
    assert engine.events == [(what, k) for k in range(3) for what in ("submit", "collect")]
    assert trace.done_ns.tolist() == [100, 200, 300]
    assert trace.submit_ns.tolist() == [0, 100, 200]
    assert (trace.done_ns - trace.submit_ns).tolist() == [100, 100, 100]


def test_three_in_flight_are_kept_in_flight():
    trace, engine, _ = run(3, 4)
    first = [("submit", 0), ("submit", 1), ("submit", 2)]
    loop = [
        ("collect", 0),
        ("submit", 3),
        ("collect", 1),
        ("submit", 4),
        ("collect", 2),
        ("submit", 5),
    ]
    assert engine.events == [*first, *loop, ("collect", 3), ("collect", 4), ("collect", 5)]
    assert trace.done_ns.tolist() == [100, 200, 300, 400]
    assert (trace.done_ns - trace.submit_ns).tolist() == [100, 200, 300, 300]


@pytest.mark.parametrize("inflight", [1, 2, 3, 7])
def test_never_more_in_flight_always_in_order_and_nothing_left(inflight):
    trace, engine, stream = run(inflight, 20)
    in_flight, most = 0, 0
    for what, _ in engine.events:
        in_flight += 1 if what == "submit" else -1
        most = max(most, in_flight)
    assert (most, in_flight, engine.ready) == (inflight, 0, {})
    for what in ("submit", "collect"):
        numbers = [k for kind, k in engine.events if kind == what]
        assert numbers == list(range(19 + inflight))
    assert len(trace.done_ns) == stream.done == 20  # what was drained is not counted


def test_the_time_to_enqueue_is_recorded_separately():
    trace, _, _ = run(1, 3, enqueue=7)
    assert (trace.enqueued_ns - trace.submit_ns).tolist() == [7, 7, 7]
    assert (trace.done_ns - trace.submit_ns).tolist() == [107, 107, 107]


def test_a_stream_that_nobody_halts_ends_at_its_deadline():
    trace, engine, _ = run(2, 10**9, deadline=250)
    assert trace.done_ns.tolist() == [100, 200, 300]
    assert engine.ready == {}


def test_a_halt_before_the_start_leaves_one_batch():
    clock = Clock()
    engine = Engine(clock)
    stream = Stream(engine, 8, 2, clock=clock, sleep=clock.sleep)
    stream.halt()
    assert len(stream.run(0, 10**18).done_ns) == 1
    assert engine.ready == {}


def test_device_spans_are_kept_only_when_there_is_a_device_clock():
    trace, _, _ = run(2, 3, device_clock=True)
    assert trace.spans_ns.tolist() == [[0, 100, 1], [1, 100, 1], [2, 100, 1]]
    assert run(2, 3)[0].spans_ns is None


def test_the_wait_for_the_common_start_sleeps_and_then_spins():
    clock = Clock(tick=10)
    engine = Engine(clock)
    stream = Stream(engine, 8, 1, clock=clock, sleep=clock.sleep)
    engine.at_collect = lambda sequence: stream.halt()
    trace = stream.run(5 * SPIN_NS, 10**18)
    assert clock.slept == [pytest.approx(4 * SPIN_NS / 1e9, rel=1e-3)]
    assert trace.start_ns == 5 * SPIN_NS
    assert 0 <= trace.late_ns <= 20
    assert trace.submit_ns[0] >= trace.start_ns


def test_a_late_start_is_recorded_and_not_slept_for():
    clock = Clock(now=900)
    engine = Engine(clock)
    stream = Stream(engine, 8, 1, clock=clock, sleep=clock.sleep)
    engine.at_collect = lambda sequence: stream.halt()
    assert stream.run(200, 10**18).late_ns == 700
    assert clock.slept == []


@pytest.mark.parametrize("inflight", [1, 3, 4])
def test_a_batch_is_submitted_when_the_one_before_it_in_its_place_completes(monkeypatch, inflight):
    monkeypatch.setattr(module, "PIECE", 4)
    trace, _, stream = run(inflight, 23)
    assert trace.done_ns.tolist() == [100 * (k + 1) for k in range(23)]
    expected = [100 * max(0, k + 1 - inflight) for k in range(23)]
    assert trace.submit_ns.tolist() == trace.enqueued_ns.tolist() == expected
    for first in range(24):
        submit_ns, done_ns = stream.since(first)
        assert submit_ns.tolist() == expected[first:]
        assert done_ns.tolist() == trace.done_ns[first:].tolist()


def test_the_garbage_collector_is_off_during_the_loop_and_on_after_it():
    clock = Clock()
    engine = Engine(clock)
    stream = Stream(engine, 8, 1, clock=clock, sleep=clock.sleep)
    seen = []

    def on_collect(sequence):
        seen.append(gc.isenabled())
        stream.halt()

    engine.at_collect = on_collect
    stream.run(0, 10**18)
    assert (seen, gc.isenabled()) == ([False], True)


def test_other_threads_can_read_the_completions_while_it_runs(monkeypatch):
    monkeypatch.setattr(module, "PIECE", 4)
    clock = Clock()
    engine = Engine(clock)
    stream = Stream(engine, 8, 2, clock=clock, sleep=clock.sleep)
    seen = []

    def on_collect(sequence):
        seen.append((stream.done, stream.since(max(0, stream.done - 2))[1].tolist()))
        if sequence == 9:
            stream.halt()

    engine.at_collect = on_collect
    assert [stamps.tolist() for stamps in stream.since(0)] == [[], []]
    stream.run(0, 10**18)
    assert seen[:4] == [(0, []), (1, [100]), (2, [100, 200]), (3, [200, 300])]
    assert seen[9] == (9, [800, 900])
    assert stream.since(6)[1].tolist() == [700, 800, 900, 1000]


def test_the_cost_of_the_loop_is_microseconds():
    cost_us = module.loop_cost_us(2, device_clock=True)
    assert 0.1 < cost_us < 200  # about 1 us on an idle core; generous to a busy machine

"""The open loop with an engine and a clock that are simulated, so that nothing waits."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from raybench.engines.base import TakesPartBatches
from raybench.measure.arrivals import Arrivals, ArrivalTimes, WorkerArrivals
from raybench.measure.open_stream import OpenStream
from raybench.measure.running_open_stream import padding_notes

MS = 1_000_000
TICK_NS = 1_000


@dataclass
class Clock:
    now: int = 0

    def __call__(self) -> int:
        self.now += TICK_NS
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)


class Server:
    """Works on one batch after another; `work(sequence)` is the time of a batch in ns."""

    def __init__(self, clock, work, halt_at=10**18):
        self.clock, self.work, self.halt_at = clock, work, halt_at
        self.info = SimpleNamespace(device_clock=False)
        self.free, self.ready, self.halt = 0, {}, lambda: None

    def submit(self, sequence):
        self.free = max(self.free, self.clock.now) + self.work(sequence)
        self.ready[sequence] = self.free

    def collect(self, sequence):
        self.clock.now = max(self.clock.now, self.ready.pop(sequence))
        if self.clock.now >= self.halt_at:
            self.halt()


class PartServer(Server, TakesPartBatches):
    """Takes 1 ms for each item that it computes."""

    sizes = (1, 2, 4, 8)

    def submit_part(self, sequence, items):
        size = next(size for size in self.sizes if size >= items)
        self.work = lambda sequence: size * MS
        self.submit(sequence)


def serve(rate, work_ms, batch_size=1, inflight=1, halt_s=1.0, **more):
    clock = Clock()
    work = work_ms if callable(work_ms) else lambda sequence: round(work_ms * MS)
    kind, server = more.pop("kind", "constant"), more.pop("server", Server)
    engine = server(clock, work, round(halt_s * 1e9))
    arrivals = WorkerArrivals(kind, rate, 1.0, (0,), **more)
    stream = OpenStream(engine, batch_size, inflight, arrivals, clock=clock, sleep=clock.sleep)
    engine.halt = stream.halt
    return stream.run(0, 10**12), stream


def test_an_item_that_finds_the_server_free_takes_the_time_of_its_batch():
    trace, _ = serve(rate=100, work_ms=2)
    assert len(trace.items) >= 100
    assert trace.items.max() == 1
    assert trace.latency_ns == pytest.approx(2 * MS, abs=10 * TICK_NS)
    assert trace.waited.all()
    assert trace.arrival_ns[:3].tolist() == [10 * MS, 20 * MS, 30 * MS]


def test_latency_counts_from_the_intended_arrival_though_the_engine_hung():
    """An item arrives every 10 ms; a closed loop would show one slow batch of 500 ms."""
    trace, _ = serve(rate=100, work_ms=lambda k: 500 * MS if k == 20 else 2 * MS, halt_s=3)
    late = np.sort(trace.latency_ns)[::-1] / MS
    assert late[0] == pytest.approx(500, abs=1)
    assert late[1] == pytest.approx(492, abs=1)  # came 10 ms later, took 2 ms more
    assert (late > 100).sum() == pytest.approx(50, abs=2)
    assert len(trace.arrival_ns) == len(trace.latency_ns)


def test_what_has_arrived_is_batched_up_to_the_batch_size():
    trace, _ = serve(rate=1000, work_ms=5, batch_size=8)
    assert trace.items[2:-1] == pytest.approx(5, abs=1)  # those of the batch before
    full, _ = serve(rate=4000, work_ms=5, batch_size=8)
    assert full.items[2:].max() == 8


def test_a_batch_waits_for_others_no_longer_than_it_may():
    trace, _ = serve(rate=1000, work_ms=0.1, batch_size=8, max_wait_ms=3.5)
    assert trace.items[1:-1].tolist() == [4] * (len(trace.items) - 2)
    assert trace.latency_ns.max() == pytest.approx(3.6 * MS, abs=10 * TICK_NS)
    full, _ = serve(rate=1000, work_ms=0.1, batch_size=3, max_wait_ms=1000)
    assert full.items[:-1].tolist() == [3] * (len(full.items) - 1)


def test_an_engine_with_sizes_computes_the_next_of_them_and_others_whole_batches():
    parts, _ = serve(rate=300, work_ms=8, batch_size=8, kind="poisson", server=PartServer)
    padded, _ = serve(rate=300, work_ms=8, batch_size=8, kind="poisson")
    assert set(padded.computed.tolist()) == {8}
    assert set(parts.computed.tolist()) <= {1, 2, 4, 8}
    assert ((parts.items <= parts.computed) & (parts.computed < 2 * parts.items)).all()
    assert parts.service_ns == pytest.approx(parts.computed * MS, abs=10 * TICK_NS)
    assert np.median(parts.latency_ns) < np.median(padded.latency_ns) / 2


@pytest.mark.parametrize(
    ("sizes", "said"),
    [((8,), "padded to 8,"), ((1, 2, 4, 8), "had: 1, 2, 4, 8."), (range(1, 9), "without padding")],
)
def test_a_row_says_which_sizes_the_engine_had(sizes, said):
    engine = PartServer(Clock(), None)
    engine.sizes = sizes
    point = SimpleNamespace(load="0.5", batch_size=8)
    (note,) = padding_notes(point, engine)
    assert said in note
    assert padding_notes(SimpleNamespace(load="closed", batch_size=8), engine) == ()
    assert padding_notes(SimpleNamespace(load="0.5", batch_size=1), engine) == ()


def test_several_batches_in_flight_use_a_device_that_is_behind():
    one, _ = serve(rate=950, work_ms=1, inflight=1)
    two, _ = serve(rate=950, work_ms=1, inflight=2)
    assert two.served[-1] == pytest.approx(one.served[-1], rel=0.01)
    assert (two.submit_ns[1:] <= two.submit_ns[1:].max()).all()
    assert (np.diff(two.done_ns) > 0).all()


def test_what_arrived_before_the_end_is_served_though_the_end_has_come():
    trace, _ = serve(rate=1000, work_ms=lambda k: 300 * MS if k == 700 else 0.1 * MS, halt_s=0.9)
    inside = trace.arrival_ns <= trace.end_ns
    assert not len(trace.unserved_ns)
    assert inside.sum() == pytest.approx(trace.end_ns / MS, abs=2)


def test_what_was_never_served_is_not_forgotten():
    trace, _ = serve(rate=2000, work_ms=1, halt_s=1, drain_ms=0)
    assert len(trace.unserved_ns) == pytest.approx(1000, abs=5)
    assert (trace.unserved_ns <= trace.end_ns).all()
    drained, _ = serve(rate=2000, work_ms=1, halt_s=1, drain_ms=5000)
    assert not len(drained.unserved_ns)


def test_a_stream_without_a_halt_ends_at_its_deadline():
    clock = Clock()
    arrivals = WorkerArrivals("constant", 10.0, 1.0, (0,))
    stream = OpenStream(Server(clock, lambda k: MS), 1, 1, arrivals, clock=clock, sleep=clock.sleep)
    trace = stream.run(0, 2_050 * MS)
    assert len(trace.items) == 20
    assert stream.done == 20


def test_records_can_be_read_piece_by_piece():
    _, stream = serve(rate=20_000, work_ms=0.01)
    everything = stream.records(0)
    assert len(everything) == stream.done > 5000
    assert stream.records(4090) == everything[4090:]
    assert stream.records(stream.done) == []


# --- arrivals -------------------------------------------------------------------------------------


def drawn(arrivals, rank, count):
    return ArrivalTimes(arrivals.of_worker(rank), 0).draw(count)


def test_constant_arrivals_of_all_workers_together_are_even():
    arrivals = Arrivals("constant", 1000.0, 4)
    together = np.sort(np.concatenate([drawn(arrivals, rank, 50) for rank in range(4)]))
    assert np.diff(together) == pytest.approx(MS, abs=1)
    assert together[0] == MS


def test_poisson_arrivals_have_their_rate_and_their_spread():
    gaps = np.diff(drawn(Arrivals("poisson", 8000.0, 4), 1, 100_000)) / 1e9
    assert gaps.mean() == pytest.approx(1 / 2000, rel=0.02)
    assert gaps.std() == pytest.approx(1 / 2000, rel=0.02)


def test_a_seed_gives_the_same_gaps_at_every_rate_and_others_to_every_worker_and_trial():
    slow, fast = (Arrivals("poisson", rate, 1, (7, 0)) for rate in (100.0, 200.0))
    assert drawn(slow, 0, 100) == pytest.approx(2 * drawn(fast, 0, 100), abs=2)
    other = Arrivals("poisson", 100.0, 1, (7, 1))
    assert drawn(other, 0, 10).tolist() != drawn(slow, 0, 10).tolist()
    assert drawn(slow, 1, 10).tolist() != drawn(slow, 0, 10).tolist()


def test_pieces_continue_where_the_last_one_ended():
    for kind in ("poisson", "constant"):
        arrivals = Arrivals(kind, 3.0, 1).of_worker(0)
        whole = ArrivalTimes(arrivals, 5).draw(300)
        times = ArrivalTimes(arrivals, 5)
        assert np.concatenate([times.draw(100) for _ in range(3)]).tolist() == whole.tolist()

"""Several open loops over one queue, on one virtual clock that lets them run by turns."""

from __future__ import annotations

import fcntl
import math
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from raybench.errors import Refused
from raybench.measure import tickets
from raybench.measure.arrivals import Arrivals, ArrivalTimes
from raybench.measure.open_stream import OpenStream
from raybench.measure.open_summary import any_grew, count_unserved_once, with_arrivals
from raybench.measure.shared_stream import SharedStream
from raybench.measure.summary import summarise_cut
from raybench.measure.tickets import Tickets, create_tickets
from raybench.measure.worker_blocks import cut_traces

MS = 1_000_000
TICK_NS = 1_000


class World:
    """Lets the worker whose clock is behind run, so that all see what happened before."""

    def __init__(self, workers):
        self.now = [0.0] * workers
        self.turn = threading.Condition()

    def move(self, rank, to_ns):
        with self.turn:
            self.now[rank] = max(self.now[rank], to_ns)
            self.turn.notify_all()
            self.turn.wait_for(
                lambda: (self.now[rank], rank) == min(zip(self.now, self.ranks, strict=True))
            )
        return self.now[rank]

    @property
    def ranks(self):
        return range(len(self.now))

    def leave(self, rank):
        with self.turn:
            self.now[rank] = math.inf
            self.turn.notify_all()


class Server:
    """One worker: a clock, and an engine that works on one batch after another."""

    def __init__(self, world, rank, work_ms, halt_ms):
        self.world, self.rank, self.work_ms, self.halt_ms = world, rank, work_ms, halt_ms
        self.info = SimpleNamespace(device_clock=False)
        self.free, self.ready, self.stream = 0.0, {}, None

    def clock(self):
        now = self.world.move(self.rank, self.world.now[self.rank] + TICK_NS)
        if now >= self.halt_ms * MS:
            self.stream.halt()
        return int(now)

    def sleep(self, seconds):
        self.world.move(self.rank, self.world.now[self.rank] + seconds * 1e9)

    def submit(self, sequence):
        work = self.work_ms(self.rank, sequence) if callable(self.work_ms) else self.work_ms
        self.free = max(self.free, self.world.now[self.rank]) + work * MS
        self.ready[sequence] = self.free

    def collect(self, sequence):
        self.world.move(self.rank, self.ready.pop(sequence))


def serve(rate, work_ms, workers=2, batch_size=1, inflight=1, halt_ms=200, **more):
    """Return the traces of workers of one queue, halted one after another."""
    world = World(workers)
    drain_ms = more.pop("drain_ms", 5000.0)
    arrivals = Arrivals(more.pop("kind", "constant"), rate, workers, (0,), shared=True, **more)
    file, path = create_tickets()
    traces = [None] * workers
    servers = []
    for rank in range(workers):
        server = Server(world, rank, work_ms, halt_ms + rank)
        own = replace(arrivals.of_worker(rank, path), drain_ms=drain_ms)
        server.stream = SharedStream(
            server, batch_size, inflight, own, clock=server.clock, sleep=server.sleep
        )
        servers.append(server)

    def run(server):
        try:
            traces[server.rank] = server.stream.run(0, 10**12)
        finally:
            world.leave(server.rank)

    threads = [threading.Thread(target=run, args=(server,)) for server in servers]
    with file:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return traces


def served_ns(traces):
    return np.sort(np.concatenate([trace.arrival_ns for trace in traces]))


def drawn(rate, count, kind="constant"):
    return ArrivalTimes(Arrivals(kind, rate, shared=True).of_worker(0), 0).draw(count)


def test_every_item_is_served_once_by_one_of_the_workers():
    traces = serve(rate=5000, work_ms=0.5, kind="poisson", workers=3, halt_ms=60)
    assert all(len(trace.items) > 50 for trace in traces)
    assert any(not trace.waited.all() for trace in traces)
    served = served_ns(traces)
    assert served.tolist() == drawn(5000, len(served), "poisson").tolist()
    assert served[-1] > 58 * MS


def test_the_worker_that_is_free_takes_the_next_item():
    """Worker 0 hangs with its third item; the other one serves all that come meanwhile."""

    def work(rank, sequence):
        return 100 if (rank, sequence) == (0, 2) else 0.5

    hung, free = serve(rate=1000, work_ms=work)
    latency = np.concatenate([hung.latency_ns, free.latency_ns]) / MS
    assert (latency > 1).sum() == 1
    assert len(free.items) > 120
    assert hung.waited.all()
    assert free.waited.all()


def test_idle_workers_take_turns_and_none_starves():
    one, two = serve(rate=1000, work_ms=0.1)
    assert abs(len(one.items) - len(two.items)) <= 1
    assert one.latency_ns == pytest.approx(0.1 * MS, abs=10 * TICK_NS)


def test_a_batch_waits_for_others_and_is_never_split_between_workers():
    traces = serve(rate=4000, work_ms=0.1, batch_size=8, max_wait_ms=1.1)
    sizes = np.concatenate([trace.items for trace in traces])
    assert np.median(sizes) == 5
    for trace in traces:
        last_ns = trace.arrival_ns[trace.served - 1]
        assert (last_ns - trace.first_ns <= 1.1 * MS).all()
    assert np.concatenate([t.latency_ns for t in traces]).max() < 1.3 * MS


def test_with_a_batch_in_flight_nothing_is_taken_ahead():
    def work(rank, sequence):
        return 20 if rank == 0 else 1

    slow, fast = serve(rate=800, work_ms=work, inflight=2)
    assert len(fast.items) > 5 * len(slow.items)
    before_the_end = slow.arrival_ns < 200 * MS
    assert (slow.submit_ns - slow.arrival_ns)[before_the_end].max() < 2 * MS


def test_one_worker_serves_a_shared_queue_as_one_of_its_own():
    (shared,) = serve(rate=700, work_ms=1.2, workers=1, kind="poisson", batch_size=4, max_wait_ms=2)
    world = World(1)
    server = Server(world, 0, 1.2, 200)
    own = Arrivals("poisson", 700, 1, (0,), 2).of_worker(0)
    server.stream = OpenStream(server, 4, 1, own, clock=server.clock, sleep=server.sleep)
    alone = server.stream.run(0, 10**12)
    assert len(alone.items) > 30
    assert shared.items[:30].tolist() == alone.items[:30].tolist()
    assert shared.latency_ns[:80] == pytest.approx(alone.latency_ns[:80], abs=20 * TICK_NS)


def test_a_stream_that_is_far_behind_draws_up_to_the_next_item():
    def work(rank, sequence):
        return 120 if rank == 0 else 0.05

    slow, fast = serve(rate=18_000, work_ms=work, halt_ms=300)
    assert fast.served[-1] > 2 * 2048
    served = served_ns((slow, fast))
    assert served.tolist() == drawn(18_000, len(served)).tolist()


# --- what is stored -------------------------------------------------------------------------------


def summarised(traces, rate, last=15):
    counted = count_unserved_once(traces)
    workers = cut_traces(counted, 2, last, 10 * MS, 4)
    grew = any_grew(workers, shared=True)
    arrivals = Arrivals("poisson", rate, len(traces), shared=True)
    return with_arrivals(summarise_cut(workers, 10 * MS), workers, arrivals, grew).trial, grew


def test_what_was_never_served_is_counted_once_and_is_overload():
    traces = serve(rate=5200, work_ms=0.5, drain_ms=0)
    assert all(len(trace.unserved_ns) for trace in traces)
    counted = count_unserved_once(traces)
    assert [bool(len(trace.unserved_ns)) for trace in counted] == [True, False]
    all_ns = np.sort(np.concatenate([served_ns(traces), counted[0].unserved_ns]))
    until = all_ns[all_ns <= counted[0].end_ns]
    assert until.tolist() == drawn(5200, len(until)).tolist()
    row, grew = summarised(traces, 5200)
    assert grew
    assert row["arrived_items_per_s"] == pytest.approx(5200, rel=0.01)
    assert row["offered_items_per_s"] == 5200
    assert row["items_per_s"] == pytest.approx(4000, rel=0.02)
    assert "latency_p50_ms" not in row


def test_a_backlog_that_grows_and_is_served_after_the_end_is_overload():
    row, grew = summarised(serve(rate=4600, work_ms=0.5), 4600)
    assert grew
    assert row["arrived_items_per_s"] == pytest.approx(4600, rel=0.01)


def test_a_load_that_is_borne_has_the_latencies_of_all_workers():
    traces = serve(rate=3000, work_ms=0.5, kind="poisson")
    row, grew = summarised(traces, 3000)
    assert not grew
    assert row["latency_n"] == pytest.approx(row["arrived_items_per_s"] * row["window_s"], abs=1)
    assert row["late_arrivals_frac"] == 0
    assert 0.5 < row["latency_p50_ms"] < row["latency_p90_ms"] < 5


def test_nothing_is_left_where_a_worker_that_ended_later_took_it_all():
    busy, late = serve(rate=3000, work_ms=0.5)
    few = np.array([busy.end_ns - 10, busy.end_ns - 5])
    first = replace(busy, unserved_ns=few)
    assert not any(len(trace.unserved_ns) for trace in count_unserved_once([first, late]))


# --- the counter ----------------------------------------------------------------------------------


def test_only_one_of_two_takes_an_item():
    file, path = create_tickets()
    with file, closing(Tickets(path)) as one, closing(Tickets(path)) as two:
        assert one.take(0, 3)
        assert not two.take(0, 1)
        assert two.taken == 3
        assert two.take(3, 4)
        assert one.taken == 4


def test_a_worker_that_is_killed_with_the_lock_does_not_stop_the_others():
    file, path = create_tickets()
    holds = f"import fcntl, time; f = open({path!r}); fcntl.flock(f, 2); print(1, flush=True); time.sleep(60)"
    held = subprocess.Popen([sys.executable, "-c", holds], stdout=subprocess.PIPE)
    with file, closing(Tickets(path)) as mine, held as other:
        other.stdout.readline()
        with open(path) as probe, pytest.raises(BlockingIOError):
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(other.pid, signal.SIGKILL)
        assert mine.take(0, 1)


def test_a_host_without_shared_memory_has_the_counter_among_its_temporary_files(monkeypatch):
    monkeypatch.setattr(tickets, "_MEMORY", "/nowhere")
    file, path = create_tickets()
    with file, closing(Tickets(path)) as mine:
        assert mine.take(0, 2)
        assert mine.taken == 2


def test_nothing_is_left_of_a_queue_and_one_that_is_gone_is_refused_in_a_sentence():
    file, path = create_tickets()
    assert os.readlink(path).endswith("(deleted)")
    file.close()
    with pytest.raises(Refused, match=r"one host, as one user. Use measure.balancer=split"):
        Tickets(path)

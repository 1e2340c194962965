"""Threads that decode ahead of a stream: order, buffers, waits, errors, and what they write."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from raybench.errors import Refused
from raybench.machine import devices
from raybench.measure.fed_stream import FedStream, fed_loop_cost_us
from raybench.measure.feeder import Feeder, FeedingPlan
from raybench.measure.feeding_columns import feeding_columns
from raybench.measure.summary import summarise
from raybench.models.items.jpegs import Jpegs

IMAGES = 3
"""In a batch of these tests."""
JPEGS = Jpegs([bytes([number]) for number in range(5)], [f"{k}.jpg" for k in range(5)], "Five.")


class Decoder:
    """Writes the one byte of an image, once it may."""

    library = "fake 1.0"

    def __init__(self, gate=None, fails_at=None):
        self.gate, self.fails_at = gate, fails_at
        self.threads = set()

    def decode(self, jpeg, item):
        if self.gate is not None:
            self.gate.acquire()
        self.threads.add(threading.current_thread().name)
        if self.fails_at == jpeg[0]:
            raise ValueError("premature end of file")
        item[...] = jpeg[0]


class SlowEngine:
    """Reads a batch when it is collected, and is done after a time of its own."""

    def __init__(self, buffers, batch_s=0.0):
        self.info = SimpleNamespace(device_clock=False)
        self.buffers, self.batch_s = buffers, batch_s
        self.read, self.flying, self.most = [], 0, 0

    def submit(self, sequence):
        self.flying += 1
        self.most = max(self.most, self.flying)

    def collect(self, sequence):
        time.sleep(self.batch_s)
        self.flying -= 1
        self.read.append(self.buffers[sequence % len(self.buffers)][:, 0].tolist())


@pytest.fixture(autouse=True)
def moved(monkeypatch):
    """CPUs that threads were pinned to."""
    cpus = []
    monkeypatch.setattr(devices, "pin_thread", cpus.append)
    return cpus


def feeder_with(decoder, cpus=(0,), buffers=4, first=0):
    arrays = [np.full((IMAGES, 2), 200 + number, np.uint8) for number in range(buffers)]
    return Feeder(FeedingPlan(JPEGS, decoder, cpus, first), arrays), arrays


def streamed(decoder, batches=7, cpus=(0,), inflight=1, batch_s=0.0, first=0):
    """Stream until so many batches are done."""
    feeder, buffers = feeder_with(decoder, cpus, first=first)
    engine = SlowEngine(buffers, batch_s)
    stream = FedStream(engine, feeder, IMAGES, inflight)
    collect = engine.collect

    def collect_and_halt(sequence):
        collect(sequence)
        if sequence == batches - 1:
            stream.halt()

    engine.collect = collect_and_halt
    now = time.perf_counter_ns()
    return stream.run(now, now + 60 * 10**9), engine, stream, buffers


@pytest.mark.parametrize("cpus", [(0,), (0, 1, 2)])
@pytest.mark.parametrize("inflight", [1, 2])
def test_every_batch_holds_the_next_images_whatever_the_threads(cpus, inflight, moved):
    trace, engine, stream, _ = streamed(Decoder(), cpus=cpus, inflight=inflight)
    images = iter(number % 5 for number in range(100))
    assert engine.read[:7] == [[next(images) for _ in range(IMAGES)] for _ in range(7)]
    assert len(trace.done_ns) == stream.done == 7
    assert engine.flying == 0
    assert engine.most <= inflight
    assert sorted(moved) == sorted(cpus)
    assert trace.feeding.threads == len(cpus)


def test_a_worker_of_another_rank_begins_with_another_image():
    _, engine, _, _ = streamed(Decoder(), batches=1, first=4)
    assert engine.read[0] == [4, 0, 1]


def test_the_first_batch_is_put_back_for_the_check_of_its_outputs():
    _, _, _, buffers = streamed(Decoder())
    assert (buffers[0] == 200).all()


def test_a_batch_that_the_engine_still_reads_is_not_written():
    gate = threading.Semaphore(100)
    feeder, buffers = feeder_with(Decoder(gate), buffers=2)
    feeder.start()
    while not feeder.is_filled(1):
        time.sleep(0.001)
    time.sleep(0.02)  # for images that should not be decoded
    assert [buffer[:, 0].tolist() for buffer in buffers] == [[0, 1, 2], [3, 4, 0]]
    feeder.release(0)
    while not feeder.is_filled(2):
        time.sleep(0.001)
    assert [buffer[:, 0].tolist() for buffer in buffers] == [[1, 2, 3], [3, 4, 0]]
    feeder.stop()
    trace = feeder.trace(0, 3)
    assert trace.waited_ns[2] > 0
    assert trace.waited_ns[:2].sum() == 0
    assert (np.diff(trace.filled_ns) > 0).all()


def test_an_image_that_cannot_be_decoded_ends_the_stream_with_its_name():
    with pytest.raises(Refused, match=r"'3.jpg' cannot be decoded by fake 1.0: premature end of"):
        streamed(Decoder(fails_at=3))
    assert not [t for t in threading.enumerate() if t.name.startswith("decoder")]


def test_a_stream_that_waits_for_images_can_be_halted():
    feeder, buffers = feeder_with(Decoder(threading.Semaphore(IMAGES)))
    stream = FedStream(SlowEngine(buffers), feeder, IMAGES, 1)
    ended = []
    thread = threading.Thread(
        target=lambda: ended.append(stream.run(time.perf_counter_ns(), 2**62)), daemon=True
    )
    thread.start()
    while stream.done < 1:
        time.sleep(0.001)
    stream.halt()
    feeder._plan.decoder.gate.release(100)  # else the thread of the feeder would wait for ever
    thread.join(10)
    assert len(ended[0].done_ns) >= 1


def window_of(trace, begin, end):
    return SimpleNamespace(
        begin=begin, end=end, contains=lambda done: (done > begin) & (done <= end)
    ), [SimpleNamespace(trace=trace, done_ns=trace.done_ns - trace.start_ns)]


def test_waits_are_of_the_window_alone_and_a_core_is_timed_by_its_work():
    trace, *_ = streamed(Decoder(), batches=4)
    ms = 1_000_000
    at = np.arange(1, 5) * 100 * ms
    trace = replace(
        trace,
        start_ns=0,
        done_ns=at,
        starved_ns=np.array([90, 50, 50, 0]) * ms,
        feeding=replace(
            trace.feeding,
            filled_ns=at - 10 * ms,
            busy_ns=np.array([1, 60, 60, 1]) * ms,
            waited_ns=np.array([99, 20, 20, 99]) * ms,
        ),
    )
    window, workers = window_of(trace, 150 * ms, 350 * ms)
    columns = feeding_columns(workers, window)
    assert columns["input_wait_frac"] == pytest.approx(0.5)
    assert columns["decoded_per_s_per_core"] == pytest.approx(2 * IMAGES / 0.12)
    assert columns["engine_wait_frac"] == pytest.approx(40 / 160)
    assert (columns["decoder"], columns["decoder_threads"]) == ("fake 1.0", 1)
    assert columns["image_bytes_mean"] == 1


def test_a_stream_without_a_pipeline_has_no_such_columns():
    trace, *_ = streamed(Decoder(), batches=4)
    window, workers = window_of(SimpleNamespace(done_ns=trace.done_ns, start_ns=0), 0, 1)
    assert feeding_columns(workers, window) == {}


def test_a_batch_in_flight_is_collected_while_the_next_one_waits_for_its_images():
    gate = threading.Semaphore(IMAGES)
    feeder, buffers = feeder_with(Decoder(gate))
    engine = SlowEngine(buffers)
    stream = FedStream(engine, feeder, IMAGES, inflight=2)
    collect = engine.collect

    def collect_and_let_go(sequence):
        collect(sequence)
        gate.release(IMAGES)  # for the next batch alone
        if sequence == 5:
            stream.halt()

    engine.collect = collect_and_let_go
    trace = stream.run(time.perf_counter_ns(), 2**62)
    assert (trace.submit_ns[1:] >= trace.done_ns[:-1]).all()
    assert (trace.starved_ns[1:] > 0).all()
    assert (trace.starved_ns[1:] <= np.diff(trace.done_ns)).all()
    columns = summarise([trace], 0, 1, int(trace.done_ns[-1] - trace.start_ns) // 2, 1).trial
    assert 0 < columns["input_wait_frac"] <= 1


def test_a_batch_that_comes_too_late_to_be_copied_beside_another_keeps_the_device_waiting():
    gate = threading.Semaphore(IMAGES)
    feeder, buffers = feeder_with(Decoder(gate))
    engine = SlowEngine(buffers)
    engine.info.device_clock = True
    stream = FedStream(engine, feeder, IMAGES, inflight=2)
    collect = engine.collect

    def collect_when_the_next_is_filled(sequence):
        collect(sequence)
        if sequence == 5:
            stream.halt()
        gate.release(IMAGES)
        while sequence < 5 and not feeder.is_filled(sequence + 1):
            time.sleep(0)
        return 10**12, 5, 1

    engine.collect = collect_when_the_next_is_filled
    trace = stream.run(time.perf_counter_ns(), 2**62)
    assert (trace.submit_ns[1:] >= trace.done_ns[:-1]).all()
    assert (trace.starved_ns[1:] >= 10**12).all()


def test_the_cost_of_the_loop_is_that_of_the_stream_that_is_fed():
    assert 0 < fed_loop_cost_us(1, False) < 1000
    assert 0 < fed_loop_cost_us(2, True) < 1000

"""A soak on a simulated clock: its blocks against those of the stamps that it drops."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.fake_engine import Clock, Engine
from helpers.fake_runs import request_of

from raybench.machine.gpu_health import Health
from raybench.machine.gpu_telemetry import HARDWARE, THERMAL, GpuSample
from raybench.measure.blocks import cut
from raybench.measure.running_soak import RunningSoak
from raybench.measure.sensors import Sensors, up_to
from raybench.measure.soak_block import events_of
from raybench.measure.stream import PIECE, Stream
from raybench.measure.telemetry_columns import Readings, worker_columns
from raybench.planning.expansion import expand

S = 1_000_000_000


@pytest.fixture(scope="module")
def point():
    request = request_of(("workers=1", "batch_size=8", "measure.row_every_s=10"))
    return expand(request.experiment, {"gpu": 1, "cpu": 1}, {"alexnet": "a"})[0]


class Sampler:
    """Telemetry whose samples are given."""

    def __init__(self, samples=()):
        self._samples = list(samples)
        self.failure = None

    @property
    def samples(self):
        return tuple(self._samples)

    def forget(self, samples, first):
        self._samples[:samples] = [first]


def soak(point, batches, work, snapshot_every, inflight=2, device_clock=False):
    """Run so many batches and return the soak, its snapshots and the stamps that were taken."""
    clock = Clock()
    engine = Engine(clock, work=work, device_clock=device_clock)
    running = RunningSoak(point, engine, Sensors("gpu", Sampler(), Sampler()), 0, S)
    running.stream = Stream(engine, 8, inflight, clock=clock, sleep=clock.sleep)
    snapshots, done_ns = [], []

    def at_collect(sequence):
        done_ns.append(clock.now)
        if sequence == batches - 1:
            running.stream.halt()
        if sequence % snapshot_every == 0:
            snapshots.append(running.snapshot(0))

    engine.at_collect = at_collect
    running.stream.run(0, 10**18)
    snapshots.append(running.snapshot(0))
    return running, snapshots, np.array(done_ns[:batches], np.int64)  # the rest was in flight


@pytest.mark.parametrize("snapshot_every", [1, 7, 1000, 10**9])
@pytest.mark.parametrize("device_clock", [False, True])
def test_the_blocks_are_those_of_the_stamps_however_often_they_are_folded(
    point, snapshot_every, device_clock
):
    point = replace(point, inflight=2)
    _, snapshots, done_ns = soak(point, 900, 7_777_777, snapshot_every, device_clock=device_clock)
    exact = cut(done_ns, 0, S, point.measure.block_min_batches, 8)
    blocks = [block for seen in snapshots for block in seen.blocks]
    assert [block.end_ns for block in blocks] == exact.edge_ns[1:].tolist()
    assert [block.batches * 8 for block in blocks] == exact.items.tolist()
    assert [block.cell for block in blocks] == exact.cells[:-1].tolist()
    edges = np.concatenate([seen.edges for seen in snapshots])
    assert edges.tolist() == exact.edges.tolist()
    assert all(block.times["latency"].n == block.batches for block in blocks)
    latency_ms = blocks[0].times["latency"].quantile(0.5)
    assert latency_ms == pytest.approx(2 * 7.777777, rel=0.006)
    assert ("compute" in blocks[0].times) == device_clock


def test_a_soak_keeps_no_more_stamps_after_many_batches_than_after_few(point):
    kept = []
    for batches in (5 * PIECE, 40 * PIECE):
        running, snapshots, _ = soak(point, batches, 100_000, 1000)
        kept.append(len(running.stream._pieces))
        assert sum(b.batches for seen in snapshots for b in seen.blocks) > batches - 3 * 10_000
    assert kept[0] == kept[1] <= 3


def test_a_stall_is_found_in_the_block_that_it_ends_in(point):
    clock = Clock()
    engine = Engine(clock, work=10_000_000)
    running = RunningSoak(point, engine, Sensors("gpu", Sampler(), Sampler()), 0, S)
    running.stream = Stream(engine, 8, 1, clock=clock, sleep=clock.sleep)

    def at_collect(sequence):
        if sequence == 150:
            clock.now += 700_000_000
        if sequence == 400:
            running.stream.halt()

    engine.at_collect = at_collect
    running.stream.run(0, 10**18)
    blocks = running.snapshot(0).blocks
    (stalled,) = [block for block in blocks if block.stalls]
    (event,) = stalled.events
    assert event.kind == "stall"
    assert event.value == pytest.approx(0.71, abs=0.001)
    assert stalled.begin_ns < event.t_ns < stalled.end_ns


def sampled(*, health_at=(), reasons_from=None, mask=0, xids=None, ecc_from=None):
    """A sample each 0.1 s of 30 s, the health in those at `health_at` seconds."""
    samples = []
    for tenth in range(300):
        at_s = tenth / 10
        health = None
        if at_s in health_at:
            wrong = 3 if ecc_from is not None and at_s >= ecc_from else 0
            health = Health(wrong, 0, 0, False, tuple((xids or {}).get(at_s, ())))
        reasons = mask if reasons_from is not None and at_s >= reasons_from else 0
        samples.append(
            GpuSample(round(at_s * S), power_w=300.0, energy_mj=int(at_s * 300_000),
                      reasons=reasons, health=health)
        )  # fmt: skip
    return samples


def blocks_of_sensors(samples, seconds):
    """Columns and events of consecutive blocks, as a soak takes them."""
    gpu = Sampler(samples)
    sensors = Sensors("gpu", gpu, Sampler())
    taken = []
    for begin in range(0, 30 - seconds, seconds):
        readings = up_to(sensors.readings(), (begin + seconds) * S)
        columns = worker_columns(readings, begin * S, (begin + seconds) * S, 100)
        taken.append((columns, events_of(readings, (), begin * S, 0)))
        sensors.forget((begin + seconds) * S)
        assert len(gpu.samples) <= 300 - 10 * begin
    return taken


def test_an_error_of_the_driver_counts_once_and_has_its_time():
    taken = blocks_of_sensors(sampled(health_at=(0, 5, 10, 15, 20), xids={10: (79, 63)}), 5)
    events = [event for _, events in taken for event in events]
    assert [(event.t_ns, event.kind, event.value) for event in events] == [
        (10 * S, "xid", 63.0), (10 * S, "xid", 79.0),
    ]  # fmt: skip
    assert sum(columns["xid_errors"] or 0 for columns, _ in taken) == 2


def test_memory_errors_count_once_over_all_blocks():
    taken = blocks_of_sensors(sampled(health_at=(0, 4, 8, 12, 16, 20), ecc_from=9), 5)
    assert [columns["ecc_errors"] for columns, _ in taken].count(3) == 1
    assert sum(columns["ecc_errors"] or 0 for columns, _ in taken) == 3
    assert [e.kind for _, events in taken for e in events] == ["ecc_uncorrected"]


@pytest.mark.parametrize(
    ("mask", "kind"), [(THERMAL, "throttled_thermal"), (HARDWARE, "throttled_hw")]
)
def test_throttling_is_an_event_when_it_begins_and_not_in_every_block(mask, kind):
    taken = blocks_of_sensors(sampled(reasons_from=12.0, mask=mask), 5)
    (event,) = [event for _, events in taken for event in events]
    assert (event.t_ns, event.kind) == (12 * S, kind)
    assert event.value == pytest.approx(3 / 5, abs=0.03)


def test_energy_of_the_blocks_adds_up():
    taken = blocks_of_sensors(sampled(), 5)
    assert [columns["energy_j"] for columns, _ in taken] == pytest.approx([1500.0] * 5, rel=0.01)


def test_readings_of_a_block_end_with_the_sample_after_it():
    readings = Readings("gpu", "n01", 1, tuple(sampled(health_at=(5, 5.1))))
    cut_off = up_to(readings, int(5.05 * S))
    assert cut_off.gpu[-1].t_ns == int(5.1 * S)
    assert [sample.t_ns for sample in cut_off.gpu if sample.health] == [5 * S]

"""A pipeline from images to rows: in a worker of this process, and on a real cluster."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

import raybench
from raybench.config.compose import read
from raybench.engines.base import EngineBase
from raybench.engines.simulated import SimulatedEngine
from raybench.errors import Infeasible, Unsupported
from raybench.machine import devices
from raybench.measure import feeding
from raybench.measure.stream import Stream
from raybench.measure.summary import summarise
from raybench.models.items.images import ImageLayout, encode_jpeg
from raybench.models.items.jpegs import PillowDecoder
from raybench.planning.plan import make_plan
from raybench.worker import Worker

BLOCK_NS = 20_000_000


@pytest.fixture(autouse=True)
def pinned(monkeypatch):
    """CPUs that this process and its threads would have been pinned to; it may use four."""
    moves = {"process": [], "threads": []}
    monkeypatch.setattr(devices, "pin", moves["process"].append)
    monkeypatch.setattr(devices, "pin_thread", moves["threads"].append)
    monkeypatch.setattr(devices, "physical_cores", lambda allowed=(): (3, 2, 1, 0))
    monkeypatch.setattr(devices, "limit_memory", lambda limit: None)
    return moves


def point_of(*words):
    words = ["experiment=scaling", "device=cpu", "workers=1", "pipeline=jpeg", *words]
    request = read(words).resolve({"cpu": 4})
    (point,) = make_plan(request.experiment, request.devices, "node", "").points
    return point


def streamed(worker, point, batches=12):
    """Prepare and stream until so many batches are done."""
    prepared = worker.prepare(point, 0, 0, 0)
    out = []
    start = time.perf_counter_ns() + 10_000_000
    thread = threading.Thread(
        target=lambda: out.append(worker.stream(start, start + 600 * 10**9, BLOCK_NS))
    )
    thread.start()
    while worker._running is None or worker._running.stream.done < batches:
        time.sleep(0.005)
    worker.halt()
    thread.join()
    return prepared, out[0]


def columns_of(measured):
    trace = measured.trace
    length = int(trace.done_ns[-1] - trace.start_ns)
    return summarise([trace], 0, 2, length // 4, 1).trial


SIMULATED = ("model=lenet", "engine=simulated", "batch_size=2", "engine.overhead_ms=0")


def test_a_slow_device_makes_the_cores_wait(pinned):
    point = point_of(*SIMULATED, "engine.item_us=20000", "cores=2", "inflight=2")
    prepared, measured = streamed(Worker("w"), point, batches=8)
    columns = columns_of(measured)
    assert columns["engine_wait_frac"] > columns["input_wait_frac"]
    assert columns["decoder_threads"] == 2
    assert pinned["threads"] == [0, 1]
    assert pinned["process"][-1] == [3]
    assert any("32 synthetic JPEGs of 500x375" in note for note in prepared.notes)
    assert not any("slow each other down" in note for note in prepared.notes)


def test_a_fast_device_waits_for_the_cores():
    point = point_of(*SIMULATED, "engine.item_us=1", "cores=1")
    prepared, measured = streamed(Worker("w"), point)
    columns = columns_of(measured)
    assert columns["input_wait_frac"] > columns["engine_wait_frac"]
    assert columns["input_wait_frac"] > 0.05
    assert columns["decoder"].startswith(("simplejpeg ", "Pillow "))
    assert 85e3 < columns["image_bytes_mean"] < 130e3
    # what sizes the blocks is the time of a batch as it is fed
    assert prepared.batch_s > 1e-4


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_computes_the_images_that_were_decoded(engine):
    point = point_of("model=lenet", f"engine={engine}", "batch_size=3", "cores=1")
    worker = Worker("w")
    path = worker.prepare(point, 0, 0, 0).model.path
    loaded, feeder = worker._loaded.engine, worker._loaded.fed.feeder
    feeder.start()
    while not feeder.wait(1):
        pass
    for sequence in (0, 1):
        loaded.submit(sequence)
        loaded.collect(sequence)
    outputs = loaded.outputs()
    feeder.stop()
    decoder = PillowDecoder(ImageLayout(32, 32, 1, True, "float32"))
    items = np.empty((3, 1, 32, 32), np.float32)
    for item, jpeg in zip(items, feeder._plan.jpegs.images[3:6], strict=True):
        decoder.decode(jpeg, item)
    session = onnxruntime.InferenceSession(str(path))
    (wanted,) = session.run(None, {session.get_inputs()[0].name: items})
    (computed,) = outputs.values()
    np.testing.assert_allclose(computed, wanted, rtol=0.05, atol=0.01)
    assert not np.allclose(wanted[0], wanted[1], rtol=1e-5)


def test_outputs_are_compared_on_the_batch_that_they_were_computed_of_at_first():
    worker = Worker("w")
    prepared, measured = streamed(
        worker, point_of("model=lenet", "engine=onnxruntime", "batch_size=2", "cores=1")
    )
    assert measured.outputs_sha256 == prepared.outputs.sha256 is not None
    assert prepared.comparison.fidelity.sqnr_db > 10


def test_a_worker_that_is_kept_streams_the_next_point_as_ever():
    worker = Worker("w")
    streamed(worker, point_of(*SIMULATED, "engine.item_us=1", "cores=3"), batches=2)
    assert set(worker._host.more_cpus) == {0, 1, 2}
    _, measured = streamed(
        worker, replace(point_of(*SIMULATED), pipeline="none", cores=None), batches=2
    )
    assert type(worker._running.stream) is Stream
    assert worker._host.more_cpus == ()
    assert "decoder" not in columns_of(measured)
    assert not [t for t in threading.enumerate() if t.name.startswith("decoder")]


def test_the_users_images_are_decoded(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        pixels = rng.integers(0, 256, (30 + number, 40), np.uint8)
        (tmp_path / f"{number}.jpg").write_bytes(encode_jpeg(pixels, 95))
    point = point_of(*SIMULATED, "cores=1", f"model.inputs={tmp_path}", "engine.item_us=1")
    prepared, measured = streamed(Worker("w"), point)
    assert any("The pipeline decodes 3 files, " in note for note in prepared.notes)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert columns_of(measured)["image_bytes_mean"] == pytest.approx(np.mean(sizes))


def test_an_engine_that_says_nothing_of_its_inputs_cannot_be_fed():
    class Mute(EngineBase):
        @classmethod
        def load(cls, load):
            return cls()

        def submit(self, sequence):
            pass

        def collect(self, sequence):
            pass

        def outputs(self):
            return {}

    with pytest.raises(Unsupported, match="'simulated' cannot be fed: it does not say where"):
        feeding.fed_by(point_of(*SIMULATED), None, Mute(), 0, 1, [0])


def test_a_worker_refuses_more_cores_than_its_process_may_use():
    worker = Worker("w")
    with pytest.raises(Infeasible, match="cores=5 needs 5 cores to decode on, and the node has 4"):
        worker.prepare(point_of(*SIMULATED, "cores=5"), 0, 0, 0)


def test_every_worker_of_a_node_has_cores_of_its_own(monkeypatch):
    point = point_of(*SIMULATED, "cores=1")
    cpus = []
    for rank in (4, 5):  # of a point on several nodes
        load = type("Load", (), {"rank": rank, "device": devices.core(3 - rank % 2)})
        load.batches = Worker("w")._load(point, SimulatedEngine, load.device, 0, rank).batches
        engine = type("E", (SimulatedEngine,), {"__init__": lambda self: None})()
        engine._batches = load.batches
        cpus += feeding.fed_by(point, load, engine, 0, 2, range(4)).cpus
    assert len(set(cpus)) == 2
    assert not {2, 3} & set(cpus)


@pytest.mark.ray
def test_the_question_of_feeding_is_answered_from_rows(measure, quick, capsys):
    code, folder = measure(
        "experiment=feeding", "model=lenet", "engine=simulated", "device=cpu", "trials=1",
        "batch_size=4", "cores=[1,4000]", "engine.item_us=50", *quick,
    )  # fmt: skip
    assert code == 0
    rows = {(row["pipeline"], row["cores"]): row for row in raybench.load(folder).to_pylist()}
    assert {key: row["status"] for key, row in rows.items()} == {
        ("none", None): "ok",
        ("jpeg", 1): "ok",
        ("jpeg", 4000): "infeasible",
    }
    fed, alone = rows["jpeg", 1], rows["none", None]
    assert "cores=4000 needs 4,000 cores" in rows["jpeg", 4000]["reason"]
    assert "underfed" in fed["flags"]
    assert fed["input_wait_frac"] > 0.05
    assert fed["decoded_per_s_per_core"] >= 0.9 * fed["items_per_s"]
    assert alone["decoder"] is None
    (curve,) = raybench.feeding(raybench.load(folder)).curves
    assert curve.enough is None
    assert "The device is fed by too few cores: with 1 core" in capsys.readouterr().out

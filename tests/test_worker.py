"""A worker in this process with a fake GPU driver: readings become columns and flags."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers.fake_nvml import FakeNvml
from helpers.tiny_graphs import tiny_conv

import raybench.worker as worker_module
from raybench.config.compose import read
from raybench.engines import graphs, registry
from raybench.errors import ModelError, PointError, Unsupported
from raybench.experiment import MeasureSettings
from raybench.machine import devices, nvml
from raybench.machine.telemetry import Telemetry
from raybench.measure import flags as flagging
from raybench.measure.arrivals import Arrivals
from raybench.measure.evidence import TrialEvidence
from raybench.measure.stopping import check_window
from raybench.measure.stream import Stream
from raybench.measure.summary import summarise
from raybench.measure.telemetry_columns import with_hardware
from raybench.measure.warmup import WarmUp
from raybench.models.source import identity
from raybench.planning.expansion import expand
from raybench.planning.plan import make_plan
from raybench.worker import Worker


@pytest.fixture
def driver(monkeypatch):
    """A fake driver with a GPU that only this process uses."""
    fake = FakeNvml()
    fake.answers = {
        "nvmlDeviceGetComputeRunningProcesses": [_process(os.getpid())],
        "nvmlDeviceGetMaxClockInfo": 1980,
        "nvmlDeviceGetTotalEccErrors": 0,
        "nvmlDeviceGetCurrentClocksEventReasons": 0,
    }
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    return fake


@pytest.fixture
def pinned(monkeypatch):
    """CPUs that the worker would have pinned this process to, call by call."""
    moves = []
    monkeypatch.setattr(devices, "pin", moves.append)
    return moves


def _process(pid):
    return type("Process", (), {"pid": pid})()


@pytest.fixture
def point():
    words = ["experiment=scaling", "model=alexnet", "engine=simulated", "grid.workers=1"]
    request = read(words).resolve({"gpu": 1, "cpu": 1})
    return make_plan(request.experiment, request.devices, "node", "").points[0]


def streamed(worker, point, meanwhile=lambda: None):
    """Prepare and stream for eight blocks, with readings from before the start on.

    Returns a snapshot from before the end and the measurement.
    """
    worker.prepare(point, 0, 0, 0)
    for telemetry in (worker._loaded.gpu, worker._host):
        telemetry.start()  # `stream` does too, and cannot wait for the first reading
        while telemetry._thread.is_alive() and not telemetry.samples:
            time.sleep(0.001)
    measurements = []
    start = time.perf_counter_ns()
    backstop = start + 600 * 10**9
    thread = threading.Thread(
        target=lambda: measurements.append(worker.stream(start, backstop, 100_000_000))
    )
    thread.start()
    while thread.is_alive() and (
        len(worker.snapshot(0).edges) < 9 or len(worker._host.samples) < 3
    ):
        time.sleep(0.01)
    meanwhile()
    snapshot = worker.snapshot(0)
    worker.halt()
    thread.join()
    return snapshot, measurements[0]


def test_a_bit_that_flips_in_the_stream_is_seen_after_it(point, pinned):
    options = {**dict(point.engine_options), "slow_device": 0, "flip_bit_s": 1000.0}
    flipping = replace(point, device="cpu", engine_options=tuple(sorted(options.items())))
    worker = Worker("w")

    def age():
        worker._loaded.engine._born_ns -= 2000 * 10**9

    _, before = streamed(worker, flipping)
    assert before.outputs_sha256 == worker._outputs.sha256 is not None
    _, after = streamed(worker, flipping, age)
    assert after.outputs_sha256 != worker._outputs.sha256 == before.outputs_sha256


GPU_FLAGS = {
    *("throttled_thermal", "throttled_hw", "throttled_power", "clock_low", "clock_varied"),
    *("foreign_process", "ecc_error"),
}
"""What a busy machine does not raise."""


def flags(measurement):
    """Return the columns of a window of half a second, and the flags of the GPU's readings."""
    summary = summarise([measurement.trace], 2, 5, 100_000_000, 1)
    summary = with_hardware(summary, [measurement.trace], [measurement.readings])
    window = check_window(
        1 + 0.001 * np.random.default_rng(0).standard_normal(40), MeasureSettings()
    )
    trial = TrialEvidence(WarmUp("agreed", 2), window, summary.trial, "gpu", 3)
    raised = flagging.raised_flags(trial)
    return summary, set(raised) & GPU_FLAGS


def test_a_gpu_is_sampled_for_the_whole_stream_and_nothing_is_flagged(driver, point, pinned):
    snapshot, measurement = streamed(Worker("w"), point)
    readings, trace = measurement.readings, measurement.trace
    assert readings.gpu[0].t_ns <= trace.start_ns
    assert readings.gpu[-1].t_ns >= trace.done_ns[-1]
    assert len(readings.host) >= 3
    assert set(snapshot.temp_c.tolist()) == {55}
    summary, raised = flags(measurement)
    assert summary.trial["sm_clock_mhz_mean"] == 1980
    assert summary.trial["foreign_processes"] == 0
    assert summary.trial["foreign_load_frac"] is not None
    assert raised == set()
    assert driver.opened == 0


def test_a_soak_has_the_readings_of_the_gpu_in_every_block_and_drops_them(driver, point, pinned):
    driver.answers |= {
        "nvmlDeviceGetPowerUsage": 300_000,
        "nvmlDeviceGetClockInfo": 1500,
        "nvmlDeviceGetTotalEccErrors": 2,
    }
    point = replace(point, measure=replace(point.measure, row_every_s=10.0))
    worker, blocks = Worker("w"), []
    worker.prepare(point, 0, 0, 0)
    start = time.perf_counter_ns()
    backstop = start + 600 * 10**9
    thread = threading.Thread(target=lambda: worker.stream(start, backstop, 300_000_000))
    thread.start()
    while thread.is_alive() and len(blocks) < 4:
        time.sleep(0.05)
        blocks += worker.snapshot(0).blocks
    kept = len(worker._loaded.gpu.samples) + len(worker._host.samples)
    worker.halt()
    thread.join()
    assert all(block.batches for block in blocks)
    for block in blocks[1:]:
        assert block.hardware["sm_clock_mhz_mean"] == 1500
        assert block.hardware["rss_peak_mib"] > 0
        assert block.readings.gpu == ()
    assert sum(block.hardware["ecc_errors"] or 0 for block in blocks) == 0  # they were there before
    assert kept < 40  # of a second and a half and what came since
    worker.close()


def test_readings_begin_before_the_stream_and_end_after_it(driver, point, pinned, monkeypatch):
    calls = []

    def noted(kind, name):
        original = getattr(kind, name)

        def method(self, *arguments):
            calls.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(kind, name, method)

    noted(Telemetry, "start")
    noted(Stream, "run")
    noted(Telemetry, "end")
    worker = Worker("w")
    worker.prepare(point, 0, 0, 0)
    worker.stream(time.perf_counter_ns(), time.perf_counter_ns(), 100_000_000)
    assert calls == ["start", "start", "run", "end", "end"]


def test_heat_foreign_processes_and_memory_errors_become_flags(driver, point, pinned):
    def trouble():
        driver.answers |= {
            "nvmlDeviceGetComputeRunningProcesses": [_process(os.getpid()), _process(1)],
            "nvmlDeviceGetTotalEccErrors": 2,
        }

    driver.answers |= {"nvmlDeviceGetCurrentClocksEventReasons": 0x20 | 0x80}
    driver.answers |= {"nvmlDeviceGetClockInfo": 1000}
    _, measurement = streamed(Worker("w"), point, meanwhile=trouble)
    _, raised = flags(measurement)
    assert raised == {
        *("throttled_thermal", "throttled_hw", "foreign_process", "clock_low", "ecc_error")
    }


def test_a_driver_that_refuses_every_figure_costs_columns_and_no_row(driver, point, pinned):
    driver.answers = {}
    driver.refused = {
        name for name in dir(FakeNvml) if "DeviceGet" in name and not name.endswith(("UUID", "Index", "Count"))
    }  # fmt: skip
    snapshot, measurement = streamed(Worker("w"), point)
    assert np.isnan(snapshot.temp_c).all()
    summary, raised = flags(measurement)
    assert summary.trial["temp_c_max"] is None
    assert raised == set()


def test_a_worker_moves_to_the_cpus_near_its_gpu_and_back_before_the_next_point(
    driver, point, pinned, monkeypatch
):
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(devices.sysfs, "core_siblings", lambda cpu: frozenset({cpu}))
    driver.answers["nvmlDeviceGetCpuAffinity"] = [0b1111_1100]
    worker = Worker("w")
    prepared = [worker.prepare(point, 0, 0, 0) for _ in range(2)]
    # three devices near six CPUs: two each
    assert [each.device.cpus for each in prepared] == [(2, 3), (2, 3)]
    assert pinned == [list(range(8)), [2, 3]] * 2
    assert prepared[0].device.pci_bus_id == "00000000:17:00.0"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_gpu_that_only_the_cluster_declares_has_no_readings(monkeypatch, point, pinned):
    monkeypatch.setattr(nvml, "inventory", lambda: ())
    _, measurement = streamed(Worker("w"), point)
    assert measurement.readings.gpu == ()
    summary, _ = flags(measurement)
    assert summary.trial["telemetry_gap_s"] is None


@pytest.fixture
def on_items(tiny, tmp_path, pinned, monkeypatch):
    """Return a function that plans a point of a small convolution with three real items."""
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    items = np.random.default_rng(0).uniform(size=(3, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "items.npz", data=items)

    def plan(*words):
        named = [f"model={tiny}", f"model.inputs={tmp_path / 'items.npz'}", "engine=onnxruntime"]
        request = read([*named, "batch_size=2", *words]).resolve({"gpu": 0, "cpu": 1})
        return make_plan(request.experiment, request.devices, "node", "").points[0]

    return plan


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_worker_streams_the_items_that_it_was_given(on_items, precision):
    worker, point = Worker("w"), on_items(f"precision={precision}")
    prepared = worker.prepare(point, 0, 0, 0)
    assert prepared.input_shape == "data:2x3x8x8"
    assert prepared.comparison.fidelity.sqnr_db > 20
    assert "3 real items are repeated to fill the" in prepared.notes[-1]
    measured = worker.stream(time.perf_counter_ns(), time.perf_counter_ns() + 10**8, 10**7)
    assert len(measured.trace.done_ns) > 0
    worker.close()


def test_a_worker_refuses_items_that_changed_after_the_plan(on_items, tmp_path):
    point = on_items("precision=int8")
    np.savez(tmp_path / "items.npz", data=np.zeros((3, 3, 8, 8), np.float32))
    with pytest.raises(ModelError, match="holds other data than when the run was planned"):
        Worker("w").prepare(point, 0, 0, 0)
    (tmp_path / "items.npz").unlink()
    with pytest.raises(ModelError, match="is missing on"):
        Worker("w").prepare(point, 0, 0, 0)


def on_file(path, batch_size, engine):
    """A point of one file, without the checks of a plan."""
    words = [f"model={path}", f"engine={engine}", f"batch_size={batch_size}"]
    experiment = read(words).resolve({"cpu": 1}).experiment
    return expand(experiment, {"cpu": 1}, {str(path): identity(str(path), experiment.model)})[0]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_file_with_a_fixed_batch_runs_with_it_or_says_so(engine, tmp_path, pinned):
    opened, closed = tmp_path / "opened.onnx", tmp_path / "closed.onnx"
    onnx.save(tiny_conv(4), opened)
    onnx.save(tiny_conv(4, (4, 72)), closed)
    worker = Worker("w")
    assert worker.prepare(on_file(opened, 4, engine), 0, 0, 0).notes == ()
    notes = worker.prepare(on_file(opened, 2, engine), 0, 0, 0).notes
    assert "batch_opened: the file is fixed to batch 4" in notes
    prepared = worker.prepare(on_file(closed, 4, engine), 0, 0, 0)
    assert prepared.input_shape == "data:4x3x8x8"
    assert prepared.comparison.fidelity.sqnr_db > 100
    with pytest.raises(Unsupported, match="Use batch_size=4"):
        worker.prepare(on_file(closed, 2, engine), 0, 0, 0)
    worker.close()


@pytest.mark.parametrize(
    ("engine", "said"),
    [("onnxruntime", "without padding"), ("openvino", "that the engine had: 1, 2, 4.")],
)
def test_an_open_loop_computes_parts_of_batches_and_its_row_says_how(
    engine, said, tmp_path, pinned
):
    path, closed = tmp_path / "net.onnx", tmp_path / "closed.onnx"
    onnx.save(tiny_conv(), path)
    onnx.save(tiny_conv(4, (4, 72)), closed)
    worker = Worker("w")
    point = replace(on_file(path, 4, engine), load="poisson(2000)")
    prepared = worker.prepare(point, 0, 0, 0)
    assert said in prepared.notes[-1]
    assert prepared.comparison.fidelity.sqnr_db > 100
    now = time.perf_counter_ns()
    arrivals = Arrivals("poisson", 2000.0, 1, (0,)).of_worker(0)
    trace = worker.stream(now, now + 10**8, 10**7, arrivals).trace
    assert (trace.computed >= trace.items).all()
    fixed = replace(on_file(closed, 4, engine), load="poisson(2000)")
    assert "was padded to 4," in worker.prepare(fixed, 0, 0, 0).notes[-1]
    assert worker.prepare(on_file(path, 4, engine), 0, 0, 0).notes == ()
    worker.close()


def test_a_worker_without_an_engine_refuses_to_stream_and_is_safe_to_close():
    worker = Worker("w")
    worker.halt()
    worker.close()
    assert worker.snapshot(0).done == 0
    with pytest.raises(RuntimeError, match="call prepare"):
        worker.stream(0, 0, 100_000_000)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_core_without_vnni_gets_weights_of_seven_bits(
    engine, monkeypatch, tmp_path, pinned, point
):
    path = tmp_path / "net.onnx"
    onnx.save(tiny_conv(), path)
    point = replace(
        point, model=str(path), engine=engine, precision="int8", device="cpu", engine_options=()
    )
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(devices, "limit_memory", lambda _: None)
    dialects = []
    for saturates in (True, False):
        monkeypatch.setattr(devices, "saturates_int8", lambda answer=saturates: answer)
        worker = Worker("core")
        dialects.append(worker.prepare(point, 0, 0, 0).model.dialect)
        worker.close()
    assert dialects == ["u8s7", "u8s8"]


def test_a_gpu_keeps_weights_of_eight_bits_whatever_cpu_is_beside_it(monkeypatch, tmp_path, point):
    path = tmp_path / "net.onnx"
    onnx.save(tiny_conv(), path)
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(devices, "saturates_int8", lambda: True)
    point = replace(point, model=str(path), precision="int8")
    device = devices.Device("gpu", "a GPU", 0, None, "0")
    model = graphs.graph_for(point, registry.get("onnxruntime"), device)
    assert model.dialect == "u8s8"


def test_fp32_outputs_that_crashed_a_worker_are_not_computed_ahead(
    tiny, tmp_path, pinned, monkeypatch
):
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    computed = []
    monkeypatch.setattr(worker_module, "prepare_reference", lambda *args: computed.append(args))
    for crashed in (True, False):
        monkeypatch.setattr(worker_module, "crashed_before", lambda doing, was=crashed: was)
        Worker("w").build(on_file(tiny, 2, "onnxruntime"), 0, 0)
        assert bool(computed) is not crashed


class Limit:
    """A power limit that notes what the worker does with it."""

    def __init__(self, did, error=None):
        self.did, self.error, self.watts = did, error, 400.0

    def check(self):
        self.did.append("check")
        if self.error:
            raise self.error

    def release(self):
        self.did.append("release")
        return ("It was not restored.",)


def limited(monkeypatch, point, error=None):
    """Return a point of a real GPU under a limit, and what its worker does with it."""
    did = []
    monkeypatch.setattr(worker_module.plugins, "load", _loading(worker_module.plugins.load, did))
    # the simulated device as a real one
    monkeypatch.setattr(worker_module.registry, "limits_power", lambda name: False)
    monkeypatch.setattr(
        worker_module.power_limit, "limit", lambda *args: did.append(args) or Limit(did, error)
    )
    return replace(point, power_limit_w=400.0, instances=2), did


def _loading(load, did):
    def noted(*args):
        did.append("load")
        return load(*args)

    return noted


def test_a_power_limit_is_set_before_the_engine_loads_and_released_with_it(
    driver, point, pinned, monkeypatch
):
    point, did = limited(monkeypatch, point)
    worker = Worker("w")
    streamed(worker, point)
    assert worker.close() == ("It was not restored.",)
    (watts, device, first), *rest = did
    assert (watts, device.uuid, first) == (400.0, "GPU-0", True)
    assert rest == ["load", "check", "release"]
    second = Worker("w")
    second.prepare(point, 1, 0, 0)
    assert did[4][2] is False


def test_a_limit_that_did_not_last_is_no_measurement(driver, point, pinned, monkeypatch):
    point, _ = limited(
        monkeypatch, point, PointError("It was set to 400 W and 700 W is read back.")
    )
    worker = Worker("w")
    worker.prepare(point, 0, 0, 0)
    now = time.perf_counter_ns()
    with pytest.raises(PointError, match="700 W is read back"):
        worker.stream(now, now + 50_000_000, 10_000_000)


def test_the_limit_of_a_gpu_is_read_whether_it_was_set_or_not(driver, point, pinned):
    assert Worker("w").prepare(point, 0, 0, 0).power_limit_w == 700

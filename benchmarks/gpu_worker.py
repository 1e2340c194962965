"""Run the jobs of gpu.py on one GPU, one after another. Started by gpu.py, not by hand.

Reads jobs as lines of JSON, answers each with one line: {"rows": [...]} or, when the process must
end, the same with "last": true.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import curve_fit

import raybench
from raybench.engines import conformance, registry
from raybench.engines.base import Engine, Load
from raybench.engines.tensorrt.failures import DeviceLost
from raybench.engines.tensorrt.runner import fed_batches, slot_count
from raybench.experiment import QUANTISED, ModelSettings
from raybench.machine import devices, environment, gpu_telemetry, nvml
from raybench.measure.blocks import cut
from raybench.measure.stream import Stream, StreamTrace
from raybench.measure.summary import summarise
from raybench.models.cache import cache_dir
from raybench.models.comparison import compare
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare
from raybench.models.reference import reference_outputs
from raybench.stats import intervals, trends

if TYPE_CHECKING:
    from collections.abc import Iterator

    from raybench.machine.devices import Device
    from raybench.models.model import Model

POOL_BYTES = 128 << 20
"""Twice the L2 of the largest GPU: inputs do not stay in it from one round to the next."""
WARM_S = 0.2
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One configuration to load and measure."""

    model: str
    precision: str
    batch_size: int
    transfers: bool = False
    inflight: int = 2
    limit: int | None = None
    seconds: float = 0.5
    pool_bytes: int = POOL_BYTES
    options: dict[str, Any] = field(default_factory=dict)


class Bench:
    """Load cases on the device and keep the last pool of inputs."""

    def __init__(self, engine: str) -> None:
        self.engine = registry.get(engine)
        self.device = _device(self.engine)
        self._pool: tuple[tuple[str, int, int], BatchPool] | None = None

    def model(self, case: Case) -> Model:
        """Return the graph of a case."""
        dialect = self.engine.traits.int8_dialect if case.precision in QUANTISED else None
        return prepare(case.model, ModelSettings(), case.precision, dialect, cache_dir())

    def pool(self, case: Case, model: Model) -> BatchPool:
        """Return the inputs of a case; they are the same for all precisions of a model."""
        key = (case.model, case.batch_size, case.pool_bytes)
        if self._pool is None or self._pool[0] != key:
            self._pool = None
            pool = BatchPool(model.inputs, case.batch_size, 0, model.ranges, case.pool_bytes)
            self._pool = (key, pool)
        return self._pool[1]

    def load_of(self, case: Case, batches: BatchPool | None = None) -> Load:
        """Return the arguments of the engine's `load`."""
        model = self.model(case)
        return Load(
            model=model,
            batches=batches or self.pool(case, model),
            device=self.device,
            inflight=case.inflight,
            transfers=case.transfers,
            options=self.engine.traits.settings(**case.options),
            memory_limit_bytes=case.limit,
            cache_dir=cache_dir(),
        )

    @contextlib.contextmanager
    def loaded(self, case: Case) -> Iterator[tuple[Engine, Load]]:
        """Yield the engine of a case and close it at the end."""
        load = self.load_of(case)
        reason = self.engine.unavailable() or self.engine.unsupported(
            case.precision, self.device, case.transfers
        )
        if reason:
            raise raybench.RaybenchError(reason)
        engine = self.engine.load(load)
        try:
            yield engine, load
        finally:
            engine.close()


def _device(engine: type[Engine]) -> Device:
    if engine.traits.device_kinds[0] == "cpu":
        return devices.core(devices.cores()[0])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    near = [gpu.near_cpus for gpu in nvml.inventory() if visible in (gpu.uuid, str(gpu.index))]
    mine = sorted(set(near[0]) & os.sched_getaffinity(0)) if near else []
    if len(mine) >= 2:
        devices.pin(mine)
    return devices.gpu(visible)


def _facts(case: Case) -> Row:
    return {**asdict(case), "options": json.dumps(case.options, sort_keys=True)}


def stream(engine: Engine, case: Case, seconds: float) -> StreamTrace:
    """Run batches through the engine for this many seconds."""
    start = time.perf_counter_ns() + 200_000
    runner = Stream(engine, case.batch_size, case.inflight)
    return runner.run(start, start + int(seconds * 1e9))


def _probe_s(engine: Engine) -> float:
    """Time of one batch alone, of the second and third."""
    times = []
    for sequence in range(3):
        began = time.perf_counter()
        engine.submit(sequence)
        engine.collect(sequence)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def measure(engine: Engine, case: Case) -> Row:
    """Return the columns of one short measurement."""
    batch_s = _probe_s(engine)
    block_s = max(0.05, 1.5 * batch_s)
    blocks = max(6, round(case.seconds / block_s))
    warm = max(2, round(WARM_S / block_s))
    trace = stream(engine, case, (warm + blocks + 1) * block_s)
    trial = summarise([trace], warm, blocks, int(block_s * 1e9), 1).trial
    kept = ("items_per_s", "rel_half_width", "latency_p50_ms", "latency_p99_ms", "window_s")
    device = ("h2d_ms_median", "compute_ms_median", "d2h_ms_median", "compute_cov")
    row = {name: trial.get(name) for name in (*kept, *device)}
    row["enqueue_us"] = trial["enqueue_ms_median"] * 1e3
    row["items_per_s_device"] = trial.get("device_items_per_s")
    return row


def _point(bench: Bench, case: Case) -> Row:
    began = time.perf_counter()
    with bench.loaded(case) as (engine, load):
        info = engine.info
        row: Row = {
            "build_s": info.build_s,
            "build_cache_hit": info.build_cache_hit,
            "load_s": info.load_s,
            "engine_mib": None if info.engine_bytes is None else info.engine_bytes / 2**20,
            "device_mib": _mib(info.device_memory_bytes),
            "notes": ",".join(info.notes),
            "sqnr_db": _sqnr(engine, load),
        }
        row.update(measure(engine, case))
    return {**row, "prepare_s": time.perf_counter() - began - row["window_s"]}


def _mib(nbytes: int | None) -> float | None:
    return None if nbytes is None else nbytes / 2**20


def _sqnr(engine: Engine, load: Load) -> float | None:
    engine.submit(0)
    engine.collect(0)
    near = compare(engine.outputs(), load.model, load.batches, cache_dir()).fidelity
    return None if near is None else near.sqnr_db


def job_points(bench: Bench, job: Row) -> Iterator[Row]:
    """Return a row per case; a failure becomes a row as well."""
    for given in job["cases"]:
        case = Case(**given)
        row: Row = {"status": "ok", **_facts(case)}
        try:
            row.update(_point(bench, case))
        except raybench.PointError as error:
            row.update(status=error.status, reason=str(error))
            row["process_must_end"] = isinstance(error, DeviceLost)
        yield row


def job_build(bench: Bench, job: Row) -> Iterator[Row]:
    """Build the plan of a case into the cache, without its inputs."""
    case = Case(**job["case"])
    began = time.perf_counter()
    try:
        sizes: Any = SimpleNamespace(batch_size=case.batch_size, count=4)
        bench.engine.prebuild(bench.load_of(case, sizes))  # type: ignore[attr-defined]
        yield {"status": "ok", "build_s": time.perf_counter() - began}
    except raybench.PointError as error:
        yield {"status": error.status, "reason": str(error)}


def job_check(bench: Bench, job: Row) -> Iterator[Row]:
    """Check the engine contract, then every mode against the simplest one, batch by batch."""
    case = Case(**job["case"])
    load = bench.load_of(case)
    items = load.batches.batch_size
    try:
        conformance.check(
            bench.engine, load, reference_outputs(load.model, load.batches, items, cache_dir())
        )
        yield {"status": "ok", "what": "contract"}
    except (AssertionError, raybench.PointError) as error:
        yield {"status": "failed", "what": "contract", "reason": str(error)}
    plain = Case(**{**job["case"], "inflight": 1, "options": job["plain"]})
    with bench.loaded(plain) as (engine, _):
        expected = _outputs(engine, 1, load.batches.count)
    for mode in job["modes"]:
        yield _compare(bench, Case(**{**job["case"], **mode}), expected, job["rounds"])


def _outputs(engine: Engine, inflight: int, count: int) -> list[dict[str, Any]]:
    for sequence in range(inflight):
        engine.submit(sequence)
    found = []
    for sequence in range(count):
        engine.collect(sequence)
        found.append(engine.outputs())
        engine.submit(sequence + inflight)
    for sequence in range(count, count + inflight):
        engine.collect(sequence)
    return found


def _fed(load: Load) -> int:
    slots = slot_count(load.inflight, load.options.streams)
    return fed_batches(slots, load.batches.count, load.transfers)


def _compare(bench: Bench, case: Case, expected: list[dict[str, Any]], rounds: int) -> Row:
    row: Row = {"status": "ok", "what": "mode", **_facts(case)}
    try:
        with bench.loaded(case) as (engine, load):
            fed = _fed(load)
            found = _outputs(engine, case.inflight, rounds * load.batches.count)
            row["notes"] = ",".join(engine.info.notes)
        differ = [
            np.abs(got[name] - values).max()
            for sequence, got in enumerate(found)
            for name, values in expected[sequence % fed].items()
            if not np.array_equal(got[name], values)
        ]
        row.update(compared=len(found), different=len(differ), worst=float(max(differ, default=0)))
        row["status"] = "failed" if differ else "ok"
    except raybench.PointError as error:
        row.update(status=error.status, reason=str(error))
    return row


def job_nvml(bench: Bench, job: Row) -> Iterator[Row]:
    """Measure throughput with and without telemetry in turns."""
    case = Case(**job["case"])
    rates: dict[float, list[float]] = {hz: [] for hz in job["hz"]}
    with bench.loaded(case) as (engine, _):
        stream(engine, case, 1.0)
        for turn in range(job["turns"]):
            order = job["hz"] if turn % 2 else job["hz"][::-1]
            for hz in order:
                telemetry = gpu_telemetry.GpuTelemetry(bench.device.uuid, 1 / hz) if hz else None
                if telemetry:
                    telemetry.start()
                done = stream(engine, case, job["seconds"]).done_ns
                if telemetry:
                    telemetry.end()
                rates[hz].append((len(done) - 1) * case.batch_size * 1e9 / (done[-1] - done[0]))
    base = np.array(rates[0])
    for hz in job["hz"]:
        ratios = np.array(rates[hz]) / base
        yield {
            "status": "ok",
            **_facts(case),
            "hz": hz,
            "items_per_s": float(np.median(rates[hz])),
            "ratio": float(np.median(ratios)),
            "ratio_se": float(ratios.std(ddof=1) / np.sqrt(len(ratios))),
        }


def job_stability(bench: Bench, job: Row) -> Iterator[Row]:
    """Measure warm-up from idle, autocorrelation of blocks, and spread between fresh loads."""
    case = Case(**job["case"])
    base: Row = {"status": "ok", **_facts(case)}
    with bench.loaded(case) as (engine, _):
        time.sleep(job["idle_s"])
        telemetry = gpu_telemetry.GpuTelemetry(bench.device.uuid)
        telemetry.start()
        trace = stream(engine, case, job["long_s"])
        half_ns = trace.start_ns + int(job["warm_s"] * 1e9)
        done = trace.done_ns
        hardware = gpu_telemetry.columns(
            telemetry.end(), half_ns, int(done[-1]), case.batch_size * int((done > half_ns).sum())
        )
        yield {**base, "what": "warm-up", **_warm_up(trace, case, job["warm_s"])}
        for block_s in (0.25, 1.0):
            yield {
                **base,
                "what": "blocks",
                "block_s": block_s,
                **_blocks(trace, case, block_s, job),
            }
        yield {**base, "what": "hardware", **hardware}
        for sample in telemetry.samples[:: max(1, len(telemetry.samples) // 40)]:
            seconds = (sample.t_ns - trace.start_ns) / 1e9
            yield {"status": "ok", "what": "sample", "t_s": seconds, **asdict(sample)}
    means = []
    for _ in range(job["trials"]):
        with bench.loaded(case) as (engine, _):
            done = stream(engine, case, job["trial_s"]).done_ns
            kept = done[done > done[0] + int(1e9)]
            means.append((len(kept) - 1) * case.batch_size * 1e9 / (kept[-1] - kept[0]))
    cv = float(np.std(means, ddof=1) / np.mean(means))
    yield {**base, "what": "trials", "trials": means, "between_cv": cv}


def _warm_up(trace: StreamTrace, case: Case, warm_s: float) -> Row:
    """Fit rest + drop * exp(-t / tau) to the block rates of the first seconds."""
    blocks = cut(trace.done_ns, trace.start_ns, 50_000_000, 1, case.batch_size)
    rates = blocks.rates
    seconds = (blocks.edge_ns[1:] - trace.start_ns) / 1e9
    rest = float(np.median(rates[seconds > warm_s]))
    outside = seconds[np.abs(rates / rest - 1) > 0.01]
    row: Row = {"rest_items_per_s": rest, "first_block_rel": float(rates[0] / rest - 1)}
    row["last_1pct_s"] = float(outside.max()) if len(outside) else 0.0
    early = seconds < warm_s
    with contextlib.suppress(RuntimeError, ValueError):
        found, _ = curve_fit(
            lambda t, drop, tau: 1 + drop * np.exp(-t / tau),
            seconds[early],
            rates[early] / rest,
            p0=(-0.05, 1.0),
            bounds=([-1, 0.01], [1, 100]),
        )
        row.update(drop_rel=float(found[0]), tau_s=float(found[1]))
    head = [round(float(rate / rest), 4) for rate in rates[:40]]
    return {**row, "head": head}


def _blocks(trace: StreamTrace, case: Case, block_s: float, job: Row) -> Row:
    blocks = cut(trace.done_ns, trace.start_ns, int(block_s * 1e9), 1, case.batch_size)
    rates = blocks.rates[int(job["warm_s"] / block_s) :]
    interval, step, drift = (
        intervals.mean_ci(rates),
        trends.largest_shift(rates),
        trends.drift(rates),
    )
    return {
        "n_blocks": len(rates),
        "items_per_s": float(rates.mean()),
        "rho1": intervals.rho(rates),
        "block_cv": float(rates.std(ddof=1) / rates.mean()),
        "rel_half_width": interval.relative if np.isfinite(interval.relative) else None,
        "n_eff": interval.n_eff,
        "step_rel": step.relative,
        "drift_rel": drift.relative,
    }


def job_environment(bench: Bench, job: Row) -> Iterator[Row]:
    """Return facts about this machine."""
    facts = {name: value for name, value in environment.snapshot().items() if value is not None}
    gpu = nvml.environment(bench.device.uuid) if bench.device.uuid else {}
    yield {"status": "ok", **facts, **gpu, "device": bench.device.name}


JOBS = {
    "build": job_build,
    "environment": job_environment,
    "check": job_check,
    "points": job_points,
    "nvml": job_nvml,
    "stability": job_stability,
}


def main() -> None:
    """Answer jobs until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    bench: Bench | None = None
    for line in sys.stdin:
        job = json.loads(line)
        rows: list[Row] = []
        try:
            bench = bench or Bench(job["engine"])
            for row in JOBS[job["kind"]](bench, job):
                rows.append(row)
                print(json.dumps({"row": row}), file=answers, flush=True)
        except (raybench.RaybenchError, AssertionError) as error:
            row = {"status": getattr(error, "status", "failed"), "reason": str(error)}
            print(json.dumps({"row": row}), file=answers, flush=True)
        last = any(row.get("process_must_end") for row in rows)
        print(json.dumps({"done": job["id"], "last": last}), file=answers, flush=True)
        if last:
            return


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()

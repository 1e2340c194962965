"""What do readings of the driver cost? Time of each call, and throughput with and without them.

Prints the median and the longest of the calls that raybench's telemetry makes (NVML and GPM) while the
device works, the time of a whole sample, and the rate of an engine beside telemetry at several rates
over the rate without, in turns of an order that alternates. Without a driver the calls are left out
and the rates show the thread alone. The last line is one JSON document.

    python benchmarks/polling.py [--engine tensorrt] [--model googlenet] [--precision int8]
        [--batch 1 128] [--hz 5 50] [--turns 12] [--seconds 0.5] [--option optimization_level=2 ...]
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from gpu_worker import Bench, Case, stream

from raybench.machine import gpm, gpu_telemetry, nvml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from raybench.engines.base import Engine

CALLS = (
    ("DeviceGetTotalEnergyConsumption",),
    ("DeviceGetFieldValues", [186]),
    ("DeviceGetClockInfo", nvml.SM_CLOCK),
    ("DeviceGetClockInfo", nvml.MEMORY_CLOCK),
    ("DeviceGetTemperature", 0),
    ("DeviceGetUtilizationRates",),
    ("DeviceGetCurrentClocksEventReasons",),
    ("DeviceGetMemoryInfo",),
)
"""Calls of each sample, with the arguments behind the handle."""
TIMES = 40


def main() -> int:
    """Measure calls and rates and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="tensorrt")
    parser.add_argument("--model", default="googlenet")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 128])
    parser.add_argument("--hz", type=float, nargs="+", default=[5.0, 50.0])
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--option", nargs="*", default=[])
    asked = parser.parse_args()
    options = {k: yaml.safe_load(v) for k, v in (word.split("=", 1) for word in asked.option)}
    bench, document = Bench(asked.engine), {"benchmark": "polling", "engine": asked.engine}
    for batch in asked.batch:
        case = Case(asked.model, asked.precision, batch, transfers=True, options=options)
        with bench.loaded(case) as (engine, _):
            stream(engine, case, 1.0)
            print(f"{case.model} {case.precision}, batch {batch}")
            document[f"batch {batch}"] = {
                "calls_us": _calls(bench.device.uuid, engine, case),
                "rates": _rates(bench.device.uuid, engine, case, asked),
                "columns": _columns(bench.device.uuid, engine, case),
            }
    print(json.dumps(document))
    return 0


def _calls(uuid: str | None, engine: Engine, case: Case) -> dict[str, list[float]]:
    """Return median and longest time of every call in us, beside a stream."""
    library = nvml.open_library()
    handle = library.device(uuid) if library is not None and uuid else None
    if library is None or handle is None:
        return {}
    board = gpu_telemetry._Board(library, handle, uuid or "")
    queries: dict[str, Callable[[], Any]] = {
        f"{name} {arguments or ''}".strip(): _query(library, name, handle, arguments)
        for name, *arguments in CALLS
    }
    queries |= {
        "a sample between two edges": lambda: board.sample(False),
        "a sample at an edge": lambda: board.sample(True),
    }
    samples = [library.ask("GpmSampleAlloc") for _ in range(2)]
    for sample in samples:
        library.do("GpmSampleGet", handle, sample)
        time.sleep(2 * gpm.MIN_INTERVAL_S)
    numbers = [metric.number for metric in gpm.METRICS]
    queries["GpmMetricsGet"] = lambda: library.gpm_metrics(*samples, numbers)  # type: ignore[call-arg]
    queries["GpmSampleGet"] = lambda: library.do("GpmSampleGet", handle, samples[0])
    found: dict[str, list[float]] = {}
    asking = threading.Thread(target=_ask, args=(queries, found))
    asking.start()
    while asking.is_alive():  # the engine stays in the thread that loaded it
        stream(engine, case, 0.1)
    for name, (median, longest) in found.items():
        print(f"  {median:9.1f} us  longest {longest:9.1f}  {name}")
    for sample in samples:
        library.ask("GpmSampleFree", sample)
    board.close()
    library.close()
    return found


def _query(
    library: nvml.Nvml, name: str, handle: object, arguments: list[Any]
) -> Callable[[], Any]:
    return lambda: library.ask(name, handle, *arguments)


def _ask(queries: dict[str, Callable[[], Any]], found: dict[str, list[float]]) -> None:
    """Time every query; what was found is there when the thread has ended."""
    for name, query in queries.items():
        spans = []
        for _ in range(TIMES):
            time.sleep(0.005)
            start = time.perf_counter_ns()
            query()
            spans.append((time.perf_counter_ns() - start) / 1e3)
        found[name] = [statistics.median(spans), max(spans)]


def _rates(
    uuid: str | None, engine: Engine, case: Case, asked: argparse.Namespace
) -> list[dict[str, float]]:
    """Return the ratio of the rate beside telemetry to the rate without, for each frequency."""
    every = [0.0, *asked.hz]
    rates: dict[float, list[float]] = {hz: [] for hz in every}
    for turn in range(asked.turns):
        for hz in every if turn % 2 else every[::-1]:
            rates[hz].append(_rate(uuid if hz else None, hz, engine, case, asked.seconds))
    found = []
    for hz in asked.hz:
        ratios = np.array(rates[hz]) / np.array(rates[0.0])
        sure = 1.96 * float(ratios.std(ddof=1)) / len(ratios) ** 0.5
        row = {"hz": hz, "items_per_s": float(np.median(rates[hz]))}
        row |= {"ratio": float(np.median(ratios)), "half_width": sure}
        print(f"  {hz:g} Hz: {row['items_per_s']:,.1f} items/s, {row['ratio']:.4f} ± {sure:.4f}")
        found.append(row)
    return found


def _rate(uuid: str | None, hz: float, engine: Engine, case: Case, seconds: float) -> float:
    telemetry = gpu_telemetry.GpuTelemetry(uuid, 1 / hz if hz else 1.0)
    if hz:
        telemetry.start()
    done = stream(engine, case, seconds).done_ns
    telemetry.end()
    return float((len(done) - 1) * case.batch_size * 1e9 / (done[-1] - done[0]))


def _columns(uuid: str | None, engine: Engine, case: Case) -> dict[str, Any]:
    """Return and print what a row of two seconds would say."""
    telemetry = gpu_telemetry.GpuTelemetry(uuid)
    telemetry.start()
    trace = stream(engine, case, 3.0)
    samples = telemetry.end()
    start, end = int(trace.start_ns + 5e8), int(trace.start_ns + 25e8)
    items = int(((trace.done_ns > start) & (trace.done_ns <= end)).sum()) * case.batch_size
    columns = gpu_telemetry.columns(samples, start, end, items)
    known = {name: value for name, value in columns.items() if value is not None}
    for name, text in _shown(known):
        print(f"  {name:<22} {text}")
    return known


def _shown(columns: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in columns.items():
        yield name, f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    raise SystemExit(main())

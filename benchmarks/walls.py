"""How long does a small grid take beyond its windows, from the command to its end?

Runs `raybench` in a process of its own on a grid of four batch sizes with windows of 3 s, as a user
would: start of Python, start of Ray, workers, engines, warm-ups, rows, table. The network is the small
ResNet of peers.py. The graph of the model is in the cache already (one short run before sees to it,
and is not counted). Beside it the driver's own CPU time inside the windows, by /proc.

    python benchmarks/walls.py [--repeats 3] [--peers] [--model FILE|NAME] [--precision fp32] [-- WORD ...]

Further words go to raybench (engine=onnxruntime). "warm" is the dearest warm-up. "Ray alone" is the
same command without a benchmark, with Ray's own settings: Python starts Ray here, asks one empty
actor one question and ends; it is taken before each run. --peers adds the walls of other tools on
the same grid, from peers.py. Prints a table and, last, one line of JSON. Exit code 1 when the median
misses: 12 s over the 12 s of windows, 2 s over the window for each further point, 1 % of a core for
the driver while it measures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from peers import PEERS, Bench, PeerResult, walls, write_model

import raybench
from raybench.machine import devices

BATCHES = (1, 4, 8, 16)
WINDOW_S = 3.0
MOST_OVER_S = 12.0
MOST_POINT_S = 2.0
MOST_DRIVER = 0.01
SAMPLE_S = 0.1
HEADS = ("total", "over", "start", "first", "further", "warm", "end", "driver", "Ray alone")
RAY_ALONE = """
import ray
ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="error")
actor = ray.remote(type("Empty", (), {"answer": lambda self: 1})).remote()
ray.get(actor.answer.remote())
ray.shutdown()
"""


@dataclass(frozen=True)
class Wall:
    """One run of the grid, in seconds.

    Attributes:
        total_s: from the command to its end.
        start_s: until the first point began.
        first_s: what the first point took beyond its window.
        further_s: what the dearest of the others took beyond its window.
        warm_s: the longest warm-up, which stands in the two above.
        end_s: after the last point had its rows.
        windows_s: all windows.
        driver: the driver's CPU time over the windows' length.
        ray_s: what Ray alone took just before.
    """

    total_s: float
    start_s: float
    first_s: float
    further_s: float
    warm_s: float
    end_s: float
    windows_s: float
    driver: float
    ray_s: float

    @property
    def over_s(self) -> float:
        """Return the time outside of the windows."""
        return self.total_s - self.windows_s


def main() -> int:
    """Run the grid some times; print each run and the medians; 1 when a median misses."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="the walls of other tools as well")
    parser.add_argument("--model", help="by default the small ResNet of peers.py")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("words", nargs="*", help="further words for raybench")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.model is None:
            options.model = Path(folder, "cnn", "model.onnx")
            write_model(options.model)
        question = Path(folder, "walls.yaml")
        question.write_text(
            "# How long does a small grid take beyond its windows?\n"
            f"grid: {{model: {options.model}, precision: {options.precision}, workers: 1,"
            f" batch_size: [{', '.join(map(str, BATCHES))}]}}\n"
        )
        words = [f"experiment={question}", "device=cpu", "preset=quick", *options.words]
        _raybench([*words, "batch_size=[1]", "measure.min_s=1", "measure.max_s=1"], folder, "first")
        words += [f"measure.min_s={WINDOW_S}", f"measure.max_s={WINDOW_S}"]
        runs = []
        print(_line("run", *HEADS))
        for number in range(options.repeats):
            runs.append(_timed(words, folder, f"run{number}"))
            print(_line(str(number + 1), *_cells(runs[-1])), flush=True)
    middle = Wall(*(statistics.median(column) for column in zip(*map(_values, runs), strict=True)))
    print(_line("median", *_cells(middle)))
    peers = _peers() if options.peers else {}
    ok = (
        middle.over_s <= MOST_OVER_S
        and middle.further_s <= MOST_POINT_S
        and middle.driver < MOST_DRIVER
    )
    report = {
        "benchmark": "walls",
        "ok": ok,
        "batches": BATCHES,
        "window_s": WINDOW_S,
        "median": {**asdict(middle), "over_s": middle.over_s},
        "runs": [asdict(wall) for wall in runs],
        "peers": peers,
    }
    print(json.dumps(report))
    return 0 if ok else 1


def _raybench(words: list[str], folder: str, name: str) -> tuple[Path, list[tuple[int, float]]]:
    """Run a command; return the results folder and the driver's CPU seconds by monotonic time."""
    results = Path(folder, name)
    command = [sys.executable, "-m", "raybench", *words, f"results.dir={results}"]
    samples = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        driver = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                used = driver.cpu_times()
                samples.append((time.perf_counter_ns(), used.user + used.system))
            time.sleep(SAMPLE_S)
        if process.returncode:
            assert process.stdout is not None
            raise SystemExit(process.stdout.read().decode())
    return results, samples


def _peers() -> dict[str, float | None]:
    """Return the wall time in s of other tools on the same grid, None where one is missing."""
    results = {peer: PeerResult([], []) for peer in PEERS if peer.name != "raybench"}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), devices.cores()[0])
        write_model(bench.model)
        walls(bench, results)
    for peer, result in results.items():
        wall = result.missing if result.wall_s is None else f"{result.wall_s:>8.2f} s"
        print(f"{peer.name:<19}{peer.engine:<13}{wall}")
    return {f"{peer.name} ({peer.engine})": result.wall_s for peer, result in results.items()}


def _ray_alone() -> float:
    """Return the wall time in s of starting and ending Ray without a benchmark."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", RAY_ALONE], check=True, capture_output=True)
    return time.perf_counter() - began


def _timed(words: list[str], folder: str, name: str) -> Wall:
    ray_s = _ray_alone()
    began, clock = time.time(), time.perf_counter()
    results, samples = _raybench(words, folder, name)
    total_s = time.perf_counter() - clock
    rows = sorted(raybench.load(results).to_pylist(), key=lambda row: row["started_at"])
    overs = [row["wall_s"] - row["window_s"] for row in rows]
    windows_s = sum(row["window_s"] for row in rows)
    return Wall(
        total_s=total_s,
        start_s=rows[0]["started_at"].timestamp() - began,
        first_s=overs[0],
        further_s=max(overs[1:]),
        warm_s=max(row["warmup_s"] for row in rows),
        end_s=began + total_s - rows[-1]["ended_at"].timestamp(),
        windows_s=windows_s,
        driver=_driver_s(results, samples) / windows_s,
        ray_s=ray_s,
    )


def _driver_s(results: Path, samples: list[tuple[int, float]]) -> float:
    """Return the driver's CPU seconds inside the windows; both use the same clock."""
    blocks = raybench.load(results, table="blocks").to_pylist()
    times, used = (np.array(column, np.float64) for column in zip(*samples, strict=True))
    total = 0.0
    for point in {block["point_id"] for block in blocks}:
        own = [b for b in blocks if b["point_id"] == point and b["phase"] == "measure"]
        ends = [min(b["t_start_ns"] for b in own), max(b["t_end_ns"] for b in own)]
        first, last = np.interp(ends, times, used)
        total += float(last - first)
    return total


def _values(wall: Wall) -> list[float]:
    return list(asdict(wall).values())


def _cells(wall: Wall) -> list[Any]:
    points = (wall.first_s, wall.further_s, wall.warm_s)
    seconds = (wall.total_s, wall.over_s, wall.start_s, *points, wall.end_s)
    return [*(f"{s:.2f} s" for s in seconds), f"{wall.driver:.2%}", f"{wall.ray_s:.2f} s"]


def _line(name: str, *cells: str) -> str:
    return f"{name:<8}" + "".join(f"{cell:>10}" for cell in cells)


if __name__ == "__main__":
    sys.exit(main())

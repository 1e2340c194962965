"""What does the pipeline's bookkeeping cost? Images decoded per second against a bare loop over the library.

Both decode the same JPEGs on the same number of threads, each pinned to a core of its own, scale them to
224 x 224 and write them as fp32 into batches of 16. "bare" is what one would write by hand: each thread
decodes image after image with simplejpeg (Pillow where it is missing) into buffers of its own, and nobody
waits for anybody. "fed" is the stream of a worker with an engine that computes nothing, so that the threads
are never held back, with claims, buffers and records of every image. They take turns, in an order that
alternates. Printed for each number of threads: the median ratio of the pairs and its spread; and beside it the
rate of so many bare processes in place of threads, which share no interpreter lock. "cpu" is the same ratio in
CPU time an image, of the whole process: other work on the machine does not move it, and waits for the
interpreter's lock are not in it. The last line is one JSON document; exit code 1 when a median is below 0.97.

    python benchmarks/feeding.py [--threads 1,2] [--pairs 9] [--seconds 2.0] [--processes]
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import multiprocessing
import statistics
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from raybench.machine import devices
from raybench.measure.fed_stream import FedStream
from raybench.measure.feeder import Feeder, FeedingPlan
from raybench.models.items.images import ImageLayout
from raybench.models.items.jpegs import best_decoder, synthetic_jpegs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEAST = 0.97
BATCH, SIDE = 16, 224
SETTLE_S = 0.3
"""Of each turn that is not counted: the first batch is complete only after it."""


def main() -> int:
    """Run all numbers of threads and print them; 1 when a median is too low."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--processes", action="store_true")
    options = parser.parse_args()
    jpegs = synthetic_jpegs(0, 3)
    print(
        f"{jpegs.note}\n{'threads':>8} {'bare/s':>9} {'fed/s':>9} {'ratio':>7} {'p10':>7} {'p90':>7} {'cpu':>7}"
    )
    rows = []
    for threads in map(int, options.threads.split(",")):
        rows.append(_compare(threads, jpegs, options))
        row = rows[-1]
        print(
            f"{threads:>8} {row['bare_per_s']:>9.1f} {row['fed_per_s']:>9.1f} {row['ratio']:>7.4f} "
            f"{row['p10']:>7.4f} {row['p90']:>7.4f} {row['cpu_ratio']:>7.4f}"
            + (f"  processes {row['processes_per_s']:.1f}/s" if options.processes else "")
        )
    ok = all(row["ratio"] >= LEAST for row in rows)
    library = best_decoder(ImageLayout(SIDE, SIDE, 3, True, "float32")).library
    print(json.dumps({"benchmark": "feeding", "ok": ok, "library": library, "cases": rows}))
    return 0 if ok else 1


def _compare(threads: int, jpegs: Any, options: argparse.Namespace) -> dict[str, Any]:
    cpus = devices.cores()[:threads]
    if len(cpus) < threads:
        raise SystemExit(f"{threads} threads need as many cores, and there are {len(cpus)}.")
    bare, fed = [], []  # images/s, and images a second of CPU time
    for pair in range(options.pairs):
        turns = [(bare, _bare), (fed, _fed)]
        for rates, run in turns if pair % 2 else reversed(turns):
            rates.append(run(jpegs, cpus, options.seconds))
    ratios, cpu_ratios = ([b[k] / a[k] for a, b in zip(bare, fed, strict=True)] for k in range(2))
    row = {
        "threads": threads,
        "bare_per_s": statistics.median(rate for rate, _ in bare),
        "fed_per_s": statistics.median(rate for rate, _ in fed),
        "ratio": statistics.median(ratios),
        "cpu_ratio": statistics.median(cpu_ratios),
        "p10": float(np.quantile(ratios, 0.1)),
        "p90": float(np.quantile(ratios, 0.9)),
    }
    if options.processes:
        row["processes_per_s"] = _processes(jpegs, cpus, options.seconds)
    return row


# ---------------------------------------------------------------- by hand


def _decode_by_hand() -> Callable[[bytes, np.ndarray[Any, Any]], None]:
    """Return what decodes, scales and writes one image with the libraries alone."""
    try:
        from simplejpeg import decode_jpeg
    except ImportError:

        def pixels_of(jpeg: bytes) -> Any:
            return Image.open(io.BytesIO(jpeg))

    else:

        def pixels_of(jpeg: bytes) -> Any:
            pixels = decode_jpeg(jpeg, "RGBX")
            size = pixels.shape[1::-1]
            return Image.frombuffer("RGBX", size, pixels, "raw", "RGBX", 0, 1)

    def decode(jpeg: bytes, item: np.ndarray[Any, Any]) -> None:
        scaled = pixels_of(jpeg).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        np.divide(np.asarray(scaled)[:, :, :3].transpose(2, 0, 1), np.float32(255), out=item)

    return decode


def _bare(jpegs: Any, cpus: Sequence[int], seconds: float) -> tuple[float, float]:
    """Return the images per second, and per second of CPU time, of bare loops on threads."""
    counts = [(0, 0)] * len(cpus)
    cpu_s = time.process_time()
    until = [time.perf_counter() + SETTLE_S, time.perf_counter() + SETTLE_S + seconds]

    def loop(place: int) -> None:
        devices.pin_thread(cpus[place])
        counts[place] = _decode_between(jpegs.images, until, place)

    threads = [threading.Thread(target=loop, args=(place,)) for place in range(len(cpus))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(count for count, _ in counts) / seconds, _over_cpu(counts, cpu_s)


@functools.cache
def _buffers(_place: int) -> list[np.ndarray[Any, Any]]:
    """Return the memory of four batches, which was written before."""
    return [np.ones((BATCH, 3, SIDE, SIDE), np.float32) for _ in range(4)]


def _over_cpu(counts: Sequence[tuple[int, int]], began_s: float) -> float:
    return sum(every for _, every in counts) / (time.process_time() - began_s)


def _decode_between(images: Sequence[bytes], until: Sequence[float], place: int) -> tuple[int, int]:
    """Decode from now on; return how many images were completed between two instants, and in all."""
    decode, buffers = _decode_by_hand(), _buffers(place)
    number, counted = place, 0
    while (now := time.perf_counter()) < until[1]:
        decode(
            images[number % len(images)], buffers[number // BATCH % len(buffers)][number % BATCH]
        )
        number += 1
        counted += now >= until[0]
    return counted, number - place


def _process(images: Sequence[bytes], cpu: int, seconds: float, gate: Any, counts: Any) -> None:
    devices.pin([cpu])
    gate.wait()
    now = time.perf_counter()
    counts.put(_decode_between(images, [now + SETTLE_S, now + SETTLE_S + seconds], cpu))


def _processes(jpegs: Any, cpus: Sequence[int], seconds: float) -> float:
    """Return the images per second of bare loops in processes."""
    context = multiprocessing.get_context("spawn")
    gate, counts = context.Barrier(len(cpus)), context.Queue()
    every = [
        context.Process(target=_process, args=(jpegs.images, cpu, seconds, gate, counts))
        for cpu in cpus
    ]
    for process in every:
        process.start()
    total = sum(counts.get()[0] for _ in every)
    for process in every:
        process.join()
    return float(total / seconds)


# ---------------------------------------------------------------- as a worker is fed


class _Idle:
    """An engine that computes nothing."""

    info = SimpleNamespace(device_clock=False)

    def submit(self, sequence: int) -> None:
        """Do nothing."""

    def collect(self, sequence: int) -> None:
        """Return at once."""


def _fed(jpegs: Any, cpus: Sequence[int], seconds: float) -> tuple[float, float]:
    """Return the same of a stream with an idle engine that is fed."""
    layout = ImageLayout(SIDE, SIDE, 3, True, "float32")
    buffers = _buffers(0)
    feeder = Feeder(FeedingPlan(jpegs, best_decoder(layout), cpus), buffers)
    stream = FedStream(_Idle(), feeder, BATCH, 2)  # type: ignore[arg-type]
    cpu_s = time.process_time()
    now = time.perf_counter_ns()
    end = now + int((SETTLE_S + seconds) * 1e9)
    trace = stream.run(now, end)
    feeding = trace.feeding  # type: ignore[attr-defined]
    filled_ns = feeding.filled_ns
    first = int(np.searchsorted(filled_ns, now + int(SETTLE_S * 1e9)))
    images = (len(filled_ns) - 1 - first) * BATCH  # from one filled batch to the last
    rate = images * 1e9 / (filled_ns[-1] - filled_ns[first])
    return float(rate), _over_cpu([(0, feeder._next)], cpu_s)


if __name__ == "__main__":
    sys.exit(main())

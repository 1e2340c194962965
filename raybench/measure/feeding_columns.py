"""What a trial with a pipeline says of it: decoding, and who waited for whom, within the window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.measure.fed_stream import FedTrace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.measure.summary import Window
    from raybench.measure.worker_blocks import WorkerBlocks


def feeding_columns(workers: Sequence[WorkerBlocks], window: Window) -> dict[str, Any]:
    """Return the columns of the pipeline; nothing without one.

    The time of a core is that of its thread: an image takes from the end of the one before to its own
    end, without the wait for a free buffer.
    """
    traces = [worker.trace for worker in workers if isinstance(worker.trace, FedTrace)]
    if len(traces) < len(workers):
        return {}
    length = window.end - window.begin
    starved_ns = [
        int(trace.starved_ns[window.contains(worker.done_ns)].sum())
        for trace, worker in zip(traces, workers, strict=True)
    ]
    filled = [window.contains(trace.feeding.filled_ns - trace.start_ns) for trace in traces]
    images = sum(int(inside.sum()) for inside in filled) * traces[0].batch_size
    busy_ns, waited_ns = (
        sum(
            int(getattr(t.feeding, name)[inside].sum())
            for t, inside in zip(traces, filled, strict=True)
        )
        for name in ("busy_ns", "waited_ns")
    )
    feeding = traces[0].feeding
    return {
        "decoder": feeding.library,
        "decoder_threads": feeding.threads,
        "image_bytes_mean": float(np.mean([trace.feeding.image_bytes for trace in traces])),
        "decoded_per_s_per_core": images * 1e9 / busy_ns if busy_ns else None,
        "input_wait_frac": min(float(np.mean(starved_ns)) / length, 1.0),
        "engine_wait_frac": waited_ns / (busy_ns + waited_ns) if busy_ns + waited_ns else None,
    }

"""What a worker's engine computes: compared with fp32, and bit for bit with itself and other workers.

A device that has begun to compute wrong numbers is as fast as before. So each worker runs the first
batch of its pool, which is the same for all workers of a point, before the warm-up and again after
the window, and hashes the outputs. Equal bits prove little; bits that change on one device prove that
something is wrong with it. An engine that differs from itself when a batch is run twice in a row is
not compared.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.machine.crash_log import crashed_before
from raybench.measure.evidence import OutputFindings
from raybench.measure.probe import run_first_again
from raybench.models.comparison import OutputComparison, compare, failed
from raybench.stats.agreement import minority

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from raybench.engines.base import EngineBase, Load
    from raybench.machine.crash_log import CrashLog
    from raybench.measure.summary import Summary
    from raybench.models.model import Model

REFERENCE = "computing the fp32 outputs of"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputBits:
    """The outputs of the first batch before the warm-up.

    Attributes:
        sha256: over name, type, shape and bytes of every output; None where the engine gives none, or
            others when it runs the batch again.
        repeats: whether it gave the same bits again; None where it gives none.
    """

    sha256: str | None = None
    repeats: bool | None = None


NO_BITS = OutputBits()


def bits_at_start(engine: EngineBase) -> OutputBits:
    """Hash the outputs of batch 0, which must be the last that was run, and run it again.

    Raises:
        PointError: what the engine raised.
    """
    first = _digest(engine)
    if first is None:
        return NO_BITS
    run_first_again(engine)
    repeats = _digest(engine) == first
    return OutputBits(first if repeats else None, repeats)


def sha256_at_end(engine: EngineBase, start: OutputBits) -> str | None:
    """Run batch 0 after the stream and hash its outputs; None where nothing could be compared.

    What fails here costs no row: the stream is measured already.
    """
    if start.sha256 is None:
        return None
    try:
        run_first_again(engine)
    except Exception:
        logger.info("The first batch was not run again", exc_info=True)
        return None
    return _digest(engine)


def with_outputs(summary: Summary, ends: Sequence[str | None]) -> Summary:
    """Return the summary with each worker's hash after the window, by rank."""
    workers = tuple(
        {**columns, "outputs_sha256_end": end}
        for columns, end in zip(summary.workers, ends, strict=True)
    )
    return replace(summary, workers=workers)


def judge_outputs(
    starts: Sequence[OutputBits], ends: Sequence[str | None], kinds: Sequence[Hashable]
) -> OutputFindings:
    """Return the workers whose outputs changed, differ from others' or from themselves.

    Args:
        starts: of each worker, by rank.
        ends: hash after the window, by rank; None where unknown.
        kinds: of each worker, by rank: those of one kind must compute the same bits.
    """
    changed = [
        rank
        for rank, (start, end) in enumerate(zip(starts, ends, strict=True))
        if None not in (start.sha256, end) and start.sha256 != end
    ]
    by_kind: dict[Hashable, list[int]] = defaultdict(list)
    for rank, start in enumerate(starts):
        if start.sha256 is not None and rank not in changed:
            by_kind[kinds[rank]].append(rank)
    differing = [
        ranks[place]
        for ranks in by_kind.values()
        for place in minority([starts[rank].sha256 for rank in ranks])
    ]
    odd = [rank for rank, start in enumerate(starts) if start.repeats is False]
    return OutputFindings(tuple(changed), tuple(sorted(differing)), tuple(odd))


def reference_step(model: Model) -> str:
    """Return what is noted while the fp32 outputs are computed: the graph that they are of."""
    return f"{REFERENCE} {model.name!r} (graph {model.fp32_sha256[:12]})"


def compare_with_fp32(engine: EngineBase, load: Load, log: CrashLog) -> OutputComparison:
    """Compare the outputs of the batch that was just run with those of fp32."""
    doing = reference_step(load.model)
    if crashed_before(doing):
        crashed = RuntimeError("it ended another worker's process with a signal")
        return failed("whose run on ONNX Runtime crashes", crashed)
    log.note(doing)
    try:
        outputs = engine.outputs()
    except Exception as error:  # noqa: BLE001 - an output that cannot be read costs no row
        return failed("because they could not be read", error)
    return compare(outputs, load.model, load.batches, load.cache_dir)


def _digest(engine: EngineBase) -> str | None:
    """Return the hash over the outputs of the batch run last; None where there are none to read."""
    try:
        outputs = engine.outputs()
        return digest(outputs) if outputs else None
    except Exception:
        logger.info("The outputs could not be read", exc_info=True)
        return None


def digest(outputs: Mapping[str, Any]) -> str:
    """Return the SHA-256 over name, type, shape and bytes of every output, in the order of names."""
    total = hashlib.sha256()
    for name, values in sorted(outputs.items()):
        array = np.ascontiguousarray(values)
        total.update(f"{name}:{array.dtype.str}{np.shape(values)};".encode())
        if array.dtype.hasobject:  # texts: the array holds addresses
            total.update(repr(array.tolist()).encode())
        else:
            total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()

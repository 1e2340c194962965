"""The precisions, and the passes that convert the fp32 graph to them, from file to file."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from raybench.errors import (
    ConfigError,
    OutOfMemory,
    RaybenchError,
    Refused,
    Unsupported,
    nearest,
)
from raybench.experiment import AS_IS, INT8_WEIGHTS, PRECISIONS, QUANTISED
from raybench.models.passes.fp16 import to_fp16
from raybench.models.passes.int8 import to_int8
from raybench.models.passes.int8_fp16 import to_int8_fp16
from raybench.models.passes.int8_weights import to_int8_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from raybench.models.conversion import Conversion, Fp32Graph
    from raybench.models.graph.graph_types import GraphTypes
    from raybench.models.passes.int8_fp16 import Int8Parts


VERSION = 5
"""Incremented when a pass makes another graph from the same source."""

REVISION = 10
"""Incremented for the same reason where the entry is to keep its place in the cache."""

OF_FP32 = ("fp32", "tf32", "bf16")
"""Precisions that have the fp32 graph; only the engine computes differently."""

OF_SOURCE = (*OF_FP32, AS_IS)
"""Precisions that no pass makes: the graph of the source runs."""

DIALECTS = ("s8s8", "u8s8", "u8s7")
NATIVE = "native"
"""Dialect of an engine that computes the fp32 graph in bf16, as OpenVINO does by a hint."""

_REASON_CHARACTERS = 300  # of a library's message

_MISSING = {
    "bf16": "no pass writes bf16 into a graph yet; ONNX has bf16 convolutions only from opset 22",
    "fp8": "no pass writes an fp8 graph yet; it would need opset 19 and another calibration",
}


def refuse(precision: str, dialect: str | None) -> None:
    """Raise an error if a precision cannot be made.

    Raises:
        ConfigError: there is no such precision.
        Unsupported: no pass makes it. An engine that takes its types from the graph must not get
            the fp32 graph as bf16: it would silently run fp32.
        ValueError: a quantised precision without one of `DIALECTS`.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"Precision {precision!r} is unknown. {nearest(precision, PRECISIONS)}")
    if precision in _MISSING and (precision, dialect) != ("bf16", NATIVE):
        raise Unsupported(
            f"Precision {precision!r} cannot be made: {_MISSING[precision]}. Use fp16 or int8."
        )
    if precision in QUANTISED and dialect not in DIALECTS:
        raise ValueError(f"{precision} needs a dialect of {DIALECTS}, not {dialect!r}")


def convert(
    precision: str,
    dialect: str | None,
    source: Fp32Graph,
    target: Path,
    parts: Int8Parts | None = None,
) -> Conversion:
    """Convert the fp32 graph to a reduced one, write it to `target`, and return how it was made.

    A pass may write temporary files beside the source: no other process may do so meanwhile.

    Args:
        precision: fp16, int8, int8_fp16 or int8_weights.
        dialect: of Q/DQ.
        source: the fp32 graph.
        target: the new file.
        parts: the int8 graph and how the fp16 one was made, for int8_fp16.

    Raises:
        Unsupported: the pass has no use for this graph.
        Refused: a library failed on it, and would again.
    """
    try:
        with _quiet():
            if precision == "fp16":
                return to_fp16(source, target)
            if precision == INT8_WEIGHTS:
                return to_int8_weights(source, target)
            if parts is not None:
                return to_int8_fp16(parts, source, target)
            assert dialect is not None  # `refuse` has checked it
            return to_int8(dialect, source, target)
    except (RaybenchError, OSError):
        raise
    except MemoryError as error:
        raise OutOfMemory("build", None, f"the {precision} graph was being made") from error
    except Exception as error:
        text = " ".join(str(error).split())[:_REASON_CHARACTERS]
        raise Refused(
            f"This graph could not be converted to {precision} ({type(error).__name__}: {text}). "
            "Use precision=fp32, or export the model in another way."
        ) from error


def refuse_unproven(precision: str, types: GraphTypes, kept: Sequence[str] = ()) -> None:
    """Raise Unsupported if a graph that was made for a precision does not compute in it.

    Args:
        precision: asked for.
        types: found in the graph.
        kept: kinds of operators that the pass left in fp32.
    """
    found = types.precision
    if found == precision:
        return
    if (precision, found) == ("int8_fp16", "int8"):
        raise Unsupported(
            "Beside its products in int8 nothing of this graph would compute in fp16, so int8_fp16 is "
            "int8. Use precision=int8."
        )
    if types.nodes:
        raise Unsupported(
            f"The {precision} graph of this model would compute in "
            f"{', '.join(types.reduced_ops) or 'fp32'}. Use precision=fp32."
        )
    if kept:
        raise Unsupported(
            f"Nothing in this graph would compute in {precision}: its operators ({', '.join(kept)}) "
            "stay in fp32: half precision lacks the range or the digits for their values, or they draw "
            "random numbers. Use precision=fp32."
        )
    has = (
        f"its operators with weights ({', '.join(types.weighted)}) have no {precision} form here"
        if types.weighted
        else "none of its operators multiplies by weights"
        if precision in (*QUANTISED, INT8_WEIGHTS)
        else "its operators only move values"
    )
    raise Unsupported(
        f"Nothing in this graph would compute in {precision}: {has}. Use precision=fp32."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice, which does not apply here, out of the log."""
    root = logging.getLogger()
    silent, level = logging.NullHandler(), logging.root.manager.disable
    root.addHandler(silent)  # else its logging.warning() would configure the root logger
    logging.disable(max(level, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(level)
        root.removeHandler(silent)

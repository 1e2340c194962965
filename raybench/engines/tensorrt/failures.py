"""Conversion of the failures of TensorRT and CUDA to raybench's errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from raybench.errors import EngineFailure, OutOfMemory, PointError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

STICKY = frozenset(
    {
        46,  # devices unavailable: another process holds the device exclusively
        214,  # uncorrectable ECC error
        220,  # uncorrectable NVLink error
        700,  # illegal address
        702,  # launch timeout
        709,  # context is destroyed
        710,  # device assert
        714,  # hardware stack error
        715,  # illegal instruction
        716,  # misaligned address
        717,  # invalid address space
        718,  # invalid program counter
        719,  # launch failure
        720,  # cooperative launch too large
        721,  # tensor memory leak
        999,  # unknown
    }
)
"""CUDA codes that every further call of this process returns again."""

ALLOCATION = 2
"""cudaErrorMemoryAllocation."""

_MEMORY = (
    re.compile(r"Requested amount of GPU memory \((\d+) bytes\)"),
    re.compile(r"due to insufficient memory on requested size of (\d+)"),
    re.compile(r"OutOfMemory[^\n]*?(?:requested|allocat\w*)\D*(\d+)", re.IGNORECASE),
    re.compile(r"OutOfMemory|[Oo]ut of memory|insufficient memory"),
)
_TOO_LARGE = re.compile(
    r"2147483647|2\^31|exceeds? (?:the )?(?:maximum )?(?:volume|number of elements)"
)
_FOREIGN_CHIP = re.compile(
    r"SM\s?[\d.]+ is not supported|Target GPU .*not supported|unsupported SM"
    r"|cannot run on this GPU, which has compute capability"
)
_NO_KERNEL = re.compile(r"[Cc]ould not find any implementation for node|Cannot compile operation")
_NODE = re.compile(
    r"\[(?P<op>\w+)\s*->\s*\"(?P<output>[^\"]*)\"\]|[Nn]ode(?: of)? name:?\s*\"?(?P<name>[\w./:-]+)"
)
_MESSAGE_CHARS = 400


class DeviceLost(EngineFailure):
    """A permanent CUDA error: no further call can work, so this process must end."""


def of_cuda(call: str, code: int, name: str, stage: str, requested_bytes: int | None) -> PointError:
    """Return the error for a CUDA return code.

    Args:
        call: function that returned it.
        code: number of the code.
        name: name of the code.
        stage: stage of the engine (build, load, input, run).
        requested_bytes: size of a failed allocation.
    """
    message = f"{call} returned {name} ({code})"
    if code == ALLOCATION:
        return OutOfMemory(stage, requested_bytes, message)
    if code in STICKY:
        return DeviceLost(
            f"The CUDA device failed at stage {stage!r}: {message}. This process cannot use it any "
            "more; the point is tried again in a new one. See dmesg for Xid lines."
        )
    return EngineFailure(
        f"CUDA refused at stage {stage!r}: {message}. Check the driver with nvidia-smi."
    )


def of_library(stage: str, lines: Iterable[str], doing: str) -> PointError:
    """Return the error for a call of TensorRT that returned nothing, from its log.

    Args:
        stage: build, load, input or run.
        lines: errors and warnings of the log, oldest first.
        doing: what failed, e.g. "build a plan".
    """
    log = [line for line in lines if line]
    for pattern in _MEMORY:
        for line in reversed(log):
            if match := pattern.search(line):
                requested = int(match[1]) if pattern.groups else None
                return OutOfMemory(stage, requested, _short(line))
    for pattern, reason in (
        (_TOO_LARGE, "a tensor has more elements than it can index. Use a smaller batch_size"),
        (_FOREIGN_CHIP, "this GPU is not known to it. Install a newer TensorRT"),
        (_NO_KERNEL, "it has no kernel for a node. Use another precision, engine or version"),
    ):
        for line in reversed(log):
            if pattern.search(line):
                return Unsupported(f"TensorRT cannot {doing}: {reason}. It said: {_short(line)}")
    reason = _short(_last_error(log)) if log else "it gave no reason"
    return EngineFailure(f"TensorRT could not {doing} at stage {stage!r}: {reason}")


def of_parser(errors: Iterable[str], log: Iterable[str]) -> Unsupported:
    """Return the error for an ONNX graph that the parser refuses, with the node's name."""
    messages = [" ".join(error.split()) for error in errors]
    text = "; ".join(messages) or _short(_last_error(list(log)) or "it gave no reason")
    node = _node(" ".join([*messages, *log]))
    where = f" at node {node!r}" if node else ""
    return Unsupported(
        f"TensorRT's ONNX parser refuses the model{where}: {text[:_MESSAGE_CHARS]}. "
        "Use another engine for it, or rewrite that operator."
    )


def _node(text: str) -> str | None:
    match = _NODE.search(text)
    if match is None:
        return None
    return match["name"] or match["output"] or match["op"]


def _last_error(lines: list[str]) -> str:
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or [""])[-1]


def _short(line: str) -> str:
    text = " ".join(line.split())
    return text if len(text) <= _MESSAGE_CHARS else text[:_MESSAGE_CHARS] + "..."

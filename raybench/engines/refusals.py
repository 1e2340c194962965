"""What engines refuse in common, and how exceptions of their libraries become PointErrors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from raybench.engines.base import KeepsState
from raybench.errors import EngineFailure, OutOfMemory, RaybenchError, Unsupported
from raybench.experiment import AS_IS, CLOSED

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping

    from raybench.engines.base import EngineBase
    from raybench.experiment import Point
    from raybench.machine.devices import Device
    from raybench.models.model import Model

T = TypeVar("T")

NO_ROWS_ON_GPU = (
    "ONNX Runtime has no call that writes a row into a tensor on the GPU, so each batch would copy all of "
    "the state of this model. Use engine=tensorrt, or device=cpu."
)
NO_BUS = "A CPU core has no bus to its memory, so transfers=off means nothing. Use transfers=on."


def declared_gpu(device: Device) -> str | None:
    """Return why a GPU that no driver confirms cannot be used; None for any other device."""
    if not device.declared:
        return None
    return (
        "The cluster declares this GPU, but no NVIDIA driver confirms it. "
        "Start the worker where nvidia-smi lists it, or use engine=simulated."
    )


def half_on_cpu(model: Model) -> tuple[str, ...]:
    """Return a note for the row if a file that runs as it is has half operators on a CPU."""
    half = any(name.endswith("float16") for name in model.reduced_ops or ())
    if model.precision != AS_IS or not half:
        return ()
    return ("The CPU computes the half-precision operators of this file in fp32.",)


@dataclass(frozen=True)
class LibraryCalls:
    """Runs calls of a library and converts the exceptions it raises.

    Attributes:
        library: its name in messages.
        exceptions: classes of exceptions to convert; others pass.
        requested: pattern of a failed allocation's message; its first group, if it takes part, is the
            size, in bytes or in what its group `unit` names.
        begins: whether its messages begin with what matters, and do not end with it.
        unsupported: sentence for the user by the pattern of a message that it explains; the first
            pattern that fits counts, and its named groups are filled into the sentence.
    """

    library: str
    exceptions: tuple[type[Exception], ...]
    requested: re.Pattern[str]
    unsupported: Mapping[re.Pattern[str], str] = field(default_factory=dict)
    begins: bool = False

    def run(self, stage: str, call: Callable[[], T]) -> T:
        """Return the result of a call.

        Raises:
            OutOfMemory: an allocation failed.
            Unsupported: the message is one that `unsupported` explains. Another attempt would end
                alike, so there is none.
            EngineFailure: for everything else.
        """
        try:
            return call()
        except RaybenchError:
            raise
        except self.exceptions as error:
            message = " ".join(str(error).split())
            size = self.requested.search(message)
            if size or "bad_alloc" in message or isinstance(error, MemoryError):
                requested = _bytes(size) if size else None
                said = _whole_sentences(message[:200]) if self.begins else message[-200:]
                reason = said or "the allocation failed"
                raise OutOfMemory(stage, requested, reason) from error
            for pattern, sentence in self.unsupported.items():
                if match := pattern.search(message):
                    reason = sentence.format_map(match.groupdict())
                    raise Unsupported(f"{reason} It said: {message[-300:]}") from error
            raise EngineFailure(
                f"{self.library} failed at stage {stage!r}: {message[-500:]}"
            ) from error


def _whole_sentences(text: str) -> str:
    """Return a text without the sentence that is cut off at its end, unless that is all of it."""
    whole, _, _ = text.rpartition(". ")
    return whole or text.rstrip(".")


_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _bytes(size: re.Match[str]) -> int | None:
    """Return the size that a library says it asked for; None if it does not say."""
    if size[1] is None:
        return None
    return round(float(size[1]) * _UNITS[size.groupdict().get("unit") or "bytes"])


def refuse_state(point: Point, engine_class: type[EngineBase]) -> None:
    """Refuse a point whose model has state, where an engine cannot keep it or items arrive on their own.

    Raises:
        Unsupported: saying why.
    """
    if not issubclass(engine_class, KeepsState):
        raise Unsupported(
            f"Engine {point.engine!r} does not keep what a batch of model {point.model!r} leaves to the "
            "next on the device. Use engine=openvino, onnxruntime, tensorrt or torch."
        )
    if point.load != CLOSED:
        raise Unsupported(
            f"Each batch of model {point.model!r} goes on where the one before has ended, so items cannot "
            f"arrive on their own: load={point.load} means nothing for it. Use load=closed."
        )

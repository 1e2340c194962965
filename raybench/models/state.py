"""State: inputs of a graph that its own outputs renew, kept on the device from batch to batch.

A decoder that generates reads the keys and values of all tokens so far and adds those of the newest. What
stays with the device is written into the graph's metadata, so a file of the user's may have it as well.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_STATE, _KEPT = "raybench.state", "raybench.kept_outputs"


@dataclass(frozen=True)
class StateTensor:
    """An input that the device keeps, and the output that renews it after each batch.

    Attributes:
        input: name of the input; its content before batch 0 is drawn once.
        output: name of the output, of the same type.
        ring_axis: axis along which the input is a ring and the output has length 1: after batch i it is
            written at index i modulo the input's length there. None: the output replaces the input.
    """

    input: str
    output: str
    ring_axis: int | None = None


def write_state(
    proto: onnx.ModelProto, state: tuple[StateTensor, ...], kept_outputs: tuple[str, ...]
) -> None:
    """Note in a graph which inputs the device keeps, and which outputs never leave it in the stream."""
    for key, value in ((_STATE, [asdict(one) for one in state]), (_KEPT, list(kept_outputs))):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)


def read_state(proto: onnx.ModelProto) -> tuple[StateTensor, ...]:
    """Return the inputs that the device keeps; none in a graph without that metadata."""
    return tuple(StateTensor(**one) for one in json.loads(_metadata(proto, _STATE)))


def read_kept_outputs(proto: onnx.ModelProto) -> frozenset[str]:
    """Return the outputs that do not leave the device in the timed stream, such as logits.

    Those that renew the state are among them, but for what the host reads as well: the next token.
    """
    return frozenset(json.loads(_metadata(proto, _KEPT)))


def _metadata(proto: onnx.ModelProto, key: str) -> str:
    return next((entry.value for entry in proto.metadata_props if entry.key == key), "[]")

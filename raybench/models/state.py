"""State: inputs of a graph that its own outputs renew, kept on the device from batch to batch.

A decoder that generates reads the keys and values of all tokens so far and adds those of the newest. What
stays with the device is written into the graph's metadata, so a file of the user's may have it as well.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

from raybench.errors import ModelError
from raybench.models.graph.shape_inference import dims

if TYPE_CHECKING:
    import onnx

    from raybench.models.graph.shape_inference import Shape

Dim = TypeVar("Dim")

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

    def output_shape(self, shape: tuple[Dim, ...]) -> tuple[Dim | int, ...]:
        """Return the shape of the output from that of the input."""
        if self.ring_axis is None:
            return shape
        return (*shape[: self.ring_axis], 1, *shape[self.ring_axis + 1 :])


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


def refuse_wrong_state(name: str, proto: onnx.ModelProto) -> None:
    """Refuse a graph whose metadata does not fit it.

    Args:
        name: of the model, for the message.
        proto: the graph, with the shapes of its inputs and outputs as far as they are known.

    Raises:
        ModelError: saying which tensor does not fit.
    """
    try:
        state, kept = read_state(proto), read_kept_outputs(proto)
        wrong = _wrong_state(state, kept, proto.graph)
    except (TypeError, ValueError) as error:
        wrong = f"cannot be read ({error})"
    if wrong is not None:
        raise ModelError(
            f"The metadata {_STATE!r} or {_KEPT!r} of model {name!r} {wrong}. Write it by "
            "raybench.models.state.write_state, or remove it."
        )


def _wrong_state(
    state: tuple[StateTensor, ...], kept: frozenset[str], graph: onnx.GraphProto
) -> str | None:
    """Return what is wrong with the state of a graph, as the end of a sentence."""
    inputs = {value.name: value for value in graph.input}
    outputs = {value.name: value for value in graph.output}
    named = {*(tensor.output for tensor in state), *kept}
    missing = [*({tensor.input for tensor in state} - set(inputs)), *(named - set(outputs))]
    if missing:
        return f"names {sorted(missing)[0]!r}, which the graph has not"
    for tensor in state:
        before, after = inputs[tensor.input], outputs[tensor.output]
        expected = dims(before)
        if expected is not None and tensor.ring_axis is not None:
            if not 0 <= tensor.ring_axis < len(expected):
                return (
                    f"has ring_axis={tensor.ring_axis} for {tensor.input!r} of {len(expected)} axes"
                )
            expected = tensor.output_shape(expected)
        kinds = [value.type.tensor_type.elem_type for value in (before, after)]
        if kinds[0] != kinds[1] or not _may_be_equal(expected, dims(after)):
            return f"renews {tensor.input!r} by {tensor.output!r}, of another type or shape"
    return None


def _may_be_equal(one: Shape | None, other: Shape | None) -> bool:
    """Return whether two shapes agree in all numbers that both have."""
    if one is None or other is None:
        return True
    pairs = list(zip(one, other, strict=False))
    known = [(a, b) for a, b in pairs if isinstance(a, int) and isinstance(b, int)]
    return len(one) == len(other) and all(a == b for a, b in known)


def _metadata(proto: onnx.ModelProto, key: str) -> str:
    return next((entry.value for entry in proto.metadata_props if entry.key == key), "[]")

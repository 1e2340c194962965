"""Types of outputs: what is no tensor of numbers is refused before an engine can crash on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.errors import Unsupported
from raybench.models.graph.shape_inference import skeleton, typed

if TYPE_CHECKING:
    import onnx


def refuse_outputs(name: str, model: onnx.ModelProto) -> None:
    """Refuse a model with an output that holds no numbers.

    Raises:
        Unsupported: an output is of strings, or is a sequence, a map or optional. ONNX Runtime, for
            example, binds a buffer for strings and then ends the process with a signal.
    """
    reason = outputs_refusal(name, model)
    if reason is not None:
        raise Unsupported(reason)


def outputs_refusal(name: str, model: onnx.ModelProto) -> str | None:
    """Return why a model is refused for an output that holds no numbers; None if none does."""
    kinds = {value.name: _kind(value) for value in model.graph.output}
    if None in kinds.values():
        inferred = _inferred(model)
        kinds = {output: kind or inferred.get(output) for output, kind in kinds.items()}
    for output, kind in kinds.items():
        if kind is not None and kind != "numbers":
            return (
                f"Output {output!r} of {name!r} is {kind}, and engines are measured with outputs "
                "that are tensors of numbers. Export the model without what makes it."
            )
    return None


def _kind(value: onnx.ValueInfoProto) -> str | None:
    """Return what an output holds; None if its type is not declared."""
    from onnx import TensorProto

    field = value.type.WhichOneof("value")
    if field == "tensor_type":
        element = value.type.tensor_type.elem_type
        if element == TensorProto.UNDEFINED:
            return None
        return "a tensor of strings" if element == TensorProto.STRING else "numbers"
    other = {
        "sequence_type": "a sequence",
        "map_type": "a map",
        "optional_type": "optional",
        "sparse_tensor_type": "a sparse tensor",
    }
    return None if field is None else other.get(field, "of an unknown type")


def _inferred(model: onnx.ModelProto) -> dict[str, str | None]:
    graph = typed(skeleton(model)).graph
    return {value.name: _kind(value) for value in graph.output}

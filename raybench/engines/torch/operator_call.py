"""One operation of the graph while it is written in PyTorch's terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from raybench.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raybench.engines.torch.writer import FxWriter, Value
    from raybench.models.graph.operations import Operation

_OTHER_NAMES = {"bool": torch.bool}


def torch_type(name: str) -> Any:
    """Return PyTorch's element type of numpy's name; raises Unsupported for one that it lacks."""
    found = _OTHER_NAMES.get(name, getattr(torch, name, None))
    if not isinstance(found, torch.dtype):
        raise Unsupported(f"PyTorch has no element type {name!r}. Export the model with another.")
    return found


class OperatorCall:
    """An operation, its inputs, and the graph that it is written to.

    Args:
        writer: of the graph.
        operation: as it stands in the ONNX graph.
        inputs: values; None for one that is left out.
        opset: version of ONNX's operators.
    """

    def __init__(
        self, writer: FxWriter, operation: Operation, inputs: Sequence[Value | None], opset: int
    ) -> None:
        self._writer = writer
        self._operation = operation
        self._inputs = tuple(inputs)
        self.opset = opset

    @property
    def outputs(self) -> int:
        """Return how many outputs somebody may want."""
        return max((i + 1 for i, name in enumerate(self._operation.outputs) if name), default=0)

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Return the inputs that are there."""
        return tuple(value for value in self._inputs if value is not None)

    def maybe(self, index: int) -> Value | None:
        """Return an input, or None where it is left out."""
        return self._inputs[index] if index < len(self._inputs) else None

    def input(self, index: int = 0) -> Value:
        """Return an input; raises Unsupported where it is left out."""
        value = self.maybe(index)
        if value is None:
            raise self.refusal(f"without its input {index}")
        return value

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute, or the default that ONNX gives it."""
        return self._operation.attributes.get(name, default)

    def constant(self, index: int) -> np.ndarray[Any, Any] | None:
        """Return an input that decides shapes, None where it is left out; raises Unsupported if it varies."""
        value = self.maybe(index)
        if value is None:
            return None
        if not value.constant:
            raise self.refusal(f"whose input {index} is computed from the data")
        return np.asarray(
            value.tensor.float() if value.tensor.is_floating_point() else value.tensor
        )

    def ints(self, index: int, attribute: str = "") -> list[int] | None:
        """Return whole numbers, from an input or from the attribute that older opsets have for it."""
        given = self.attribute(attribute, None) if attribute else None
        if given is not None:
            return [int(each) for each in np.atleast_1d(given)]
        array = self.constant(index)
        return None if array is None else [int(each) for each in array.reshape(-1)]

    def axis(self, default: int, rank: int | None = None) -> int:
        """Return the attribute `axis`, from 0 on, for an input of this rank."""
        rank = self.input().rank if rank is None else rank
        axis = int(self.attribute("axis", default))
        return axis + rank if axis < 0 else axis

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Write a call; see `FxWriter.call`."""
        return self._writer.call(function, *arguments, **keywords)

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """Write a value in another shape; nothing if it has that shape."""
        if value.shape == tuple(shape):
            return value
        return self.call(torch.reshape, value, tuple(shape))  # type: ignore[no-any-return]

    def cast(self, value: Value, dtype: Any) -> Value:
        """Write a value in another type; nothing if it has that type."""
        if value.dtype == dtype:
            return value
        return self.call(torch.Tensor.to, value, dtype)  # type: ignore[no-any-return]

    def refusal(self, what: str) -> Unsupported:
        """Return the error for an operation that the table has in other forms, but not like this."""
        return Unsupported(
            f"Engine 'torch' has no operator {self._operation.kind} {what} (node "
            f"{self._operation.name!r}). Use engine=onnxruntime, or export the model in another way."
        )

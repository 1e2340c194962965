"""From a prepared ONNX graph to a module of PyTorch, at the batch of the point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from raybench.engines.torch.bf16 import Bf16Types, matrices, weights_of_products
from raybench.engines.torch.operator_call import OperatorCall, torch_type
from raybench.engines.torch.operators.table import TABLE
from raybench.engines.torch.writer import FxWriter, Value
from raybench.errors import PointError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raybench.models.graph.operations import Operation, OperationGraph
    from raybench.models.model import Model, TensorSpec

_REASON_CHARACTERS = 300


def convert(model: Model, graph: OperationGraph, batch_size: int) -> Any:
    """Return a torch.fx.GraphModule that takes the model's inputs in order and returns its outputs.

    Args:
        model: whose graph it is; in bf16 the graph is in fp32 and computes as `bf16` says.
        graph: as read from the model's file.
        batch_size: items in a batch, which becomes a number in the module.

    Raises:
        Unsupported: the table lacks an operator of the graph, or a form of it.
    """
    refuse_unknown(graph)
    return _Conversion(model, graph).module(batch_size)


def refuse_unknown(graph: OperationGraph) -> None:
    """Raise Unsupported, with their names, if the table lacks operators of a graph."""
    unknown = sorted({operation.kind for operation in graph.operations} - set(TABLE))
    if unknown:
        raise Unsupported(
            f"Engine 'torch' has no operator {', '.join(unknown)}, which this graph needs. "
            "Use engine=onnxruntime or openvino, or export the model with other operators."
        )


def state_type(model: Model, spec: TensorSpec) -> Any:
    """Return the element type of an input that the device keeps: bf16 for fp32 where the graph computes in it."""
    dtype = torch_type(spec.dtype)
    return torch.bfloat16 if (model.precision, dtype) == ("bf16", torch.float32) else dtype


def tensor_of(array: np.ndarray[Any, Any]) -> Any:
    """Return a tensor that shares an array's memory, of a type that NumPy itself may not have."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


class _Conversion:
    """One graph on its way to a module.

    Args:
        model: whose graph it is.
        graph: as read from the model's file.
    """

    def __init__(self, model: Model, graph: OperationGraph) -> None:
        self._model = model
        self._graph = graph
        self._writer = FxWriter()
        self._types = Bf16Types(self._writer) if model.precision == "bf16" else None
        self._values: dict[str, Value] = {
            name: Value(tensor_of(array)) for name, array in graph.weights.items()
        }

    def module(self, batch_size: int) -> Any:
        """Return the module for batches of this size."""
        writer = self._writer
        kept = set(self._model.state_inputs)
        fed = {
            spec.name: writer.input(
                state_type(self._model, spec) if spec in kept else torch_type(spec.dtype),
                spec.with_batch(batch_size),
            )
            for spec in self._model.inputs
        }
        self._values.update(fed)
        self._narrow(fed)
        for operation in self._graph.operations:
            self._write(operation)
        outputs = self._outputs()
        return writer.module(self._apart(outputs, fed.values()) if kept else outputs)

    def _apart(self, outputs: Sequence[Value], inputs: Iterable[Value]) -> list[Value]:
        """Copy outputs that are views of inputs: state is written where it lies, while they still count."""
        lent = {value.tensor.untyped_storage()._cdata for value in inputs}
        return [
            self._writer.call(torch.clone, value)
            if not value.constant and value.tensor.untyped_storage()._cdata in lent
            else value
            for value in outputs
        ]

    def _narrow(self, fed: Iterable[str]) -> None:
        """Put inputs, and the weights of products, into bf16 where the graph computes in it."""
        if self._types is None:
            return
        operations, constants = self._graph.operations, set(self._graph.weights)
        for name in (*fed, *(weights_of_products(operations) & constants)):
            self._values[name] = self._types.narrow(self._values[name])
        for name in matrices(operations) & constants:
            self._values[name] = self._types.by_columns(self._values[name])

    def _write(self, operation: Operation) -> None:
        """Write one operation and note its outputs."""
        inputs = [self._values[name] if name else None for name in operation.inputs]
        if self._types is not None:
            inputs = self._types.inputs(operation.kind, inputs)
        op = OperatorCall(self._writer, operation, inputs, self._graph.opset)
        try:
            made = TABLE[operation.kind](op)
        except PointError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
            said = " ".join(str(error).split())[:_REASON_CHARACTERS]
            raise op.refusal(f"as it stands here: {said}") from error
        results: Sequence[Value] = [made] if isinstance(made, Value) else made
        self._values.update(zip(operation.outputs, results, strict=False))

    def _outputs(self) -> list[Value]:
        """Return the outputs, in the types that the graph gives them."""
        outputs = [self._values[name] for name in self._graph.outputs]
        if self._types is None:
            return outputs
        renewing = {each.output for each in self._model.state}
        declared = {
            spec.name: spec.dtype for spec in self._model.outputs if spec.name not in renewing
        }
        return [
            self._types.narrow(value)
            if name in renewing
            else self._writer.call(torch.Tensor.to, value, torch.float32)
            if value.dtype == torch.bfloat16 and declared.get(name) == "float32"
            else value
            for name, value in zip(self._graph.outputs, outputs, strict=True)
        ]

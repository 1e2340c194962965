"""A check of fp16 graphs without a GPU: what rounding each half tensor costs.

ONNX Runtime's CPU kernels compute half operators in fp32 and round little, so they are no judge.
Here every half weight and every half output of a node is rounded to half, in an fp32 graph whose
optimisations are off, so that the casts stay. Sums inside one operator stay fp32, as engines on
GPUs compute them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models.element_types import scopes

if TYPE_CHECKING:
    import onnx


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the fp32 graph that computes what an fp16 graph does; the argument becomes it."""
    from onnx import TensorProto, helper, numpy_helper

    for scope in reversed(list(scopes(model).walk())):
        graph = scope.graph
        for tensor in graph.initializer:
            if tensor.data_type == TensorProto.FLOAT16:
                values = numpy_helper.to_array(tensor).astype("float32")
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        nodes = []
        for node in graph.node:
            _in_fp32(node)
            nodes.append(node)
            for port, name in enumerate(node.output):
                if scope.types.get(name) == TensorProto.FLOAT16:
                    exact, half = f"{name}/exact", f"{name}/rounded"
                    node.output[port] = exact
                    nodes.append(helper.make_node("Cast", [exact], [half], to=TensorProto.FLOAT16))
                    nodes.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
        del graph.node[:]
        graph.node.extend(nodes)
        graph.ClearField("value_info")
    return model


def _in_fp32(node: onnx.NodeProto) -> None:
    """Let a node write fp32 where an attribute says that it writes half."""
    from onnx import TensorProto, numpy_helper

    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT
        if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(attribute.t).astype("float32")
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))

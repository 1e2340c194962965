"""Gemm in its plain form, the only one that int8 kernels and the quantiser agree on.

That is alpha and beta 1 and a bias of one number a column. ONNX allows any factors, and a bias of any
shape that can be broadcast; the quantiser fails on most of these, or forgets a factor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

_NAMES = {1: "weight", 2: "bias"}
"""Suffixes of the new weights' names, by index of the input."""


def plain_gemms(model: onnx.ModelProto) -> tuple[set[str], set[str]]:
    """Write stored factors and biases of Gemms in their plain form, as far as they have one.

    Args:
        model: in normal form, so that every node has a name; changed. Weights that are in external
            files, not loaded, stay as they are.

    Returns:
        Names of the nodes that were changed, and of those that have no plain form.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    changed, odd = set[str](), set[str]()
    for node in model.graph.node:
        if node.op_type != "Gemm" or node.domain not in ("", "ai.onnx") or _plain(node, weights):
            continue
        new = _rewritten(node, weights)
        if new is None:
            odd.add(node.name)
        else:
            model.graph.initializer.extend(new)
            changed.add(node.name)
    return changed, odd


def _factors(node: onnx.NodeProto) -> dict[str, float]:
    found = {each.name: each.f for each in node.attribute if each.name in ("alpha", "beta")}
    return {"alpha": 1.0, "beta": 1.0, **found}


def _columns(node: onnx.NodeProto, weight: onnx.TensorProto) -> int:
    transposed = any(each.name == "transB" and each.i for each in node.attribute)
    return int(weight.dims[0 if transposed else 1])


def _plain(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    """Return whether a Gemm is plain; one whose weight is computed is not for int8 anyway.

    A computed bias stays float, and so does its factor.
    """
    weight = weights.get(node.input[1])
    if weight is None:
        return True
    factors = _factors(node)
    bias = weights.get(node.input[2]) if len(node.input) > 2 else None
    return factors["alpha"] == 1 and (
        bias is None or (factors["beta"] == 1 and list(bias.dims) == [_columns(node, weight)])
    )


def _rewritten(
    node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]
) -> list[onnx.TensorProto] | None:
    """Make a Gemm plain and return its new weights; None if it has no such form."""
    from onnx import helper, numpy_helper

    weight = weights[node.input[1]]
    bias = weights.get(node.input[2]) if len(node.input) > 2 else None
    if not all(_is_readable(each) for each in (weight, bias) if each is not None):
        return None
    factors = _factors(node)
    values = {1: numpy_helper.to_array(weight) * np.float32(factors["alpha"])}
    factors["alpha"] = 1.0
    if bias is not None:
        columns = _columns(node, weight)
        numbers = numpy_helper.to_array(bias) * np.float32(factors["beta"])
        factors["beta"] = 1.0
        if numbers.size not in (1, columns) or numbers.shape[:-1] not in ((), (1,)):
            return None
        values[2] = np.broadcast_to(numbers.reshape(-1), (columns,)).copy()
    for index in values:
        node.input[index] = f"{node.name}.{_NAMES[index]}"
    kept = [each for each in node.attribute if each.name not in factors]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(*each) for each in factors.items())])
    return [numpy_helper.from_array(value, node.input[i]) for i, value in values.items()]


def _is_readable(tensor: onnx.TensorProto) -> bool:
    from onnx import TensorProto

    is_float: bool = tensor.data_type == TensorProto.FLOAT
    return is_float and tensor.data_location != TensorProto.EXTERNAL

"""Sines and cosines whose arguments are too large for half precision.

A sine needs the absolute error of its argument small, and half precision bounds the relative one:
1000 is off by up to 0.25. So the steps that compute such an argument (time or position times
frequencies, as embeddings of diffusion networks and rotary positions have them) are fp32, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import onnx

_PERIODIC = ("Sin", "Cos", "Tan")
_ELEMENT_WISE = frozenset(
    [
        "Abs",
        "Add",
        "Cast",
        "Ceil",
        "Clip",
        "CumSum",
        "Div",
        "Floor",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Range",
        "Round",
        "Sub",
        "Sum",
        "Where",
    ]
)
_MOVING = frozenset(
    [
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
_PRODUCTS = ("MatMul", "Einsum")


def sine_nodes(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, tuple[int, ...]],
    large: Collection[str],
) -> set[str]:
    """Return the first outputs of the sines of large arguments, and of the nodes that compute these.

    Args:
        nodes: of a graph.
        weights: shapes of its stored tensors.
        large: values that half precision holds too coarsely for a sine.
    """
    makers = {output: node for node in nodes for output in node.output}
    found, pending = set[str](), []
    for node in nodes:
        if node.op_type in _PERIODIC and node.input[0] in large:
            found.add(node.output[0])
            pending.append(node.input[0])
    while pending:
        maker = makers.get(pending.pop())
        if maker is None or maker.output[0] in found or not _only_scales(maker, weights):
            continue
        found.add(maker.output[0])
        pending += maker.input
    return found


def _only_scales(node: onnx.NodeProto, weights: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether a node is a step from a position to an angle, and no layer of a network."""
    if node.op_type not in _PRODUCTS:
        return node.op_type in _ELEMENT_WISE or node.op_type in _MOVING
    stored = [weights[name] for name in node.input if name in weights]
    return all(1 in shape for shape in stored)

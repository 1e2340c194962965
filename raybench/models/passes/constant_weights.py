"""Weights that follow from constants by sums of products: a norm of weights, an adapter beside one.

Folding leaves them, since engines differ in their last bits. A pass that rounds weights needs their
values: ONNX Runtime computes them once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models.graph.cpu_run import run
from raybench.models.graph.graph_walk import varying

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx


def store_weights(model: onnx.ModelProto, kinds: Collection[str]) -> bool:
    """Turn the second factors that follow from constants into stored tensors; return whether any did.

    Args:
        model: with its weights, in one protobuf; it is changed.
        kinds: operators whose second input is such a factor.
    """
    from onnx import numpy_helper

    at_run = list(varying(model.graph))
    computed = {name for node in at_run for name in node.output}
    makers = {name: node for node in model.graph.node for name in node.output}
    wanted = [
        name
        for name in dict.fromkeys(node.input[1] for node in at_run if node.op_type in kinds)
        if name in makers and name not in computed and len(makers[name].output) == 1
    ]
    if not wanted:
        return False
    values = run(lambda: _constants_alone(model, computed), {}, wanted, big=False)
    for name in wanted:
        model.graph.node.remove(makers[name])
        model.graph.initializer.append(numpy_helper.from_array(values[name], name))
    return True


def _constants_alone(model: onnx.ModelProto, computed: set[str]) -> onnx.ModelProto:
    """Return a copy without the inputs and what follows from them."""
    import onnx

    alone = onnx.ModelProto()
    alone.CopyFrom(model)
    kept = [node for node in alone.graph.node if computed.isdisjoint(node.output)]
    for part in (alone.graph.node, alone.graph.input, alone.graph.output, alone.graph.value_info):
        del part[:]
    alone.graph.node.extend(kept)
    return alone

"""A check of fp16 graphs without a GPU: what rounding each half tensor costs.

ONNX Runtime's CPU kernels compute half operators in fp32 and round little, so they are no judge.
Here every half weight and every half output of a node is rounded to half, in an fp32 graph whose
optimisations are off, so that the casts stay. Sums inside one operator stay fp32, as engines on
GPUs compute them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from raybench.machine import cgroup, sysfs
from raybench.models.fidelity import fidelity
from raybench.models.graph.cpu_run import run
from raybench.models.graph.element_types import scopes
from raybench.models.items.batches import calibration_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import onnx

    from raybench.models.conversion import Fp32Graph
    from raybench.models.passes.half_graph import HalfGraph

    Array = np.ndarray[Any, Any]

T = TypeVar("T")

HALF_STEP = 2.0**-11
"""Relative rounding error of half precision."""

_ITEMS = (2, 1)
"""Items of the check; one if the graph does not run with two."""

_MEMORY = 5
"""Times the fp32 weights that the check holds at most (measured on vit_b16: 1.6 GiB in all)."""

_AT_ONCE = 1 << 26
"""Elements of values that are held at a time."""

_STEP_DB = 6.0
"""A node that loses less is not worth its casts."""

_NODES = 8
"""Nodes that a round of the search adds at most."""


@dataclass(frozen=True)
class HalfCheck:
    """What rounding costs a graph.

    Attributes:
        sqnr_db: fidelity of the outputs that can be compared; None if there are none.
        resized: outputs whose shape depends on the values and differs from that in fp32.
    """

    sqnr_db: float | None
    resized: tuple[str, ...]


def refuse_without_memory(source: Fp32Graph) -> None:
    """Raise MemoryError where the check would end this process for want of memory."""
    weights = sum(file.stat().st_size for file in source.path.parent.iterdir())
    limits = (
        sysfs.available_bytes((sysfs.ROOT / "proc/meminfo").read_text()),
        cgroup.limits().memory_bytes,
    )
    needed, free = _MEMORY * weights, min((x for x in limits if x is not None), default=None)
    if free is not None and needed > free:
        raise MemoryError(
            f"that takes about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} are free"
        )


def on_few_items(
    source: Fp32Graph, examine: Callable[[dict[str, Array]], T]
) -> tuple[dict[str, Array], T]:
    """Return the items of a check and what they show; raises whatever examining one item does."""
    for items in _ITEMS:
        inputs = calibration_batches(source.inputs, source.ranges, 1, items, source.given)[0]
        try:
            return inputs, examine(inputs)
        except Exception:
            if items == _ITEMS[-1]:
                raise
    raise AssertionError  # the last one returns or raises


def check_rounded(
    model: onnx.ModelProto,
    source: Fp32Graph,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
) -> HalfCheck:
    """Run a graph with each half tensor rounded and compare its outputs with those of fp32.

    Args:
        model: the graph with half precision in it.
        source: the fp32 graph.
        inputs: a few items.
        expected: the fp32 outputs for them.
    """
    outputs = run(lambda: rounded(model), inputs, list(expected), source.big)
    numbers = {
        name: values
        for name, values in expected.items()
        if name not in source.drawn_outputs
        and values.dtype.kind in "fiub"
        and np.isfinite(values).all()
    }
    resized = tuple(name for name in numbers if numbers[name].shape != outputs[name].shape)
    comparable = {
        name: values
        for name, values in numbers.items()
        if name not in resized and values.dtype.kind == "f"
    }
    found = fidelity(comparable, outputs, source.softmax_outputs)
    return HalfCheck(found.sqnr_db if found else None, resized)


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the fp32 graph that computes what an fp16 graph does."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    result = onnx.ModelProto()
    result.CopyFrom(model)
    for scope in reversed(list(scopes(result, foreign=True).walk())):
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
    return result


def _in_fp32(node: onnx.NodeProto) -> None:
    """Let a node write fp32 where an attribute says that it writes half."""
    from onnx import TensorProto, numpy_helper

    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT
        if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(attribute.t).astype("float32")
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))


def losing_nodes(
    fp32: Callable[[], onnx.ModelProto],
    half: HalfGraph,
    inputs: Mapping[str, Array],
    elements: Mapping[str, int],
    big: bool,
) -> set[str]:
    """Return the float inputs and outputs of the nodes that lose most by rounding.

    A node's loss is the SQNR of its worst input less that of its output.

    Args:
        fp32: reads the fp32 graph.
        half: the fp16 graph.
        inputs: a few items.
        elements: number of elements of each value to look at.
        big: whether the fp32 graph exceeds what one protobuf holds.
    """
    nodes = list(fp32().graph.node)
    written = {name for node in half.model.graph.node for name in node.output}
    names = [name for node in nodes for name in node.output if name in elements]
    halves = {name: name + half.suffix if name + half.suffix in written else name for name in names}
    sqnr = {}
    for part in _parts(names, elements):
        reference = run(fp32, inputs, part, big)
        actual = run(lambda: rounded(half.model), inputs, [halves[n] for n in part], big)
        sqnr.update({name: _sqnr_db(reference[name], actual[halves[name]]) for name in part})
    losses = {}
    for index, node in enumerate(nodes):
        before = [sqnr[name] for name in node.input if name in sqnr]
        after = [sqnr[name] for name in node.output if name in sqnr]
        if before and after:
            losses[index] = min(before) - min(after)
    worst = sorted(losses, key=lambda index: -losses[index])[:_NODES]
    around = [nodes[i] for i in worst if losses[i] >= _STEP_DB]
    return {name for node in around for name in (*node.input, *node.output) if name in sqnr}


def _parts(names: list[str], elements: Mapping[str, int]) -> Iterator[list[str]]:
    """Return the names in groups of bounded size."""
    part: list[str] = []
    for name in names:
        if part and sum(elements[each] for each in part) + elements[name] > _AT_ONCE:
            yield part
            part = []
        part.append(name)
    if part:
        yield part


def _sqnr_db(expected: Array, actual: Array) -> float:
    """Return the SQNR of a value about its mean, or about 0 where it varies less than half can show.

    The result is from -200 to 200 dB.
    """
    if expected.shape != actual.shape:
        return -200.0
    wide = expected.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        noise, energy = np.sum((wide - actual) ** 2), np.sum(wide**2)
        signal = energy - np.sum(wide) ** 2 / max(wide.size, 1)
        if signal < energy * HALF_STEP**2:
            signal = energy
        ratio = signal / noise if noise else np.inf
        return float(np.clip(np.nan_to_num(10 * np.log10(ratio), nan=-200.0), -200.0, 200.0))

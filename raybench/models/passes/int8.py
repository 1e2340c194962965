"""The int8 graph: explicit Q/DQ in one of three dialects.

`s8s8` (TensorRT): symmetric, Q/DQ on the inputs of weighted ops, so that Conv and Relu stay
together, and wherever else a float tensor would keep a convolution from writing int8; biases stay
float. `u8s8` (OpenVINO, ONNX Runtime): asymmetric uint8 activations around every op that has an
int8 kernel; `u8s7` is the same with weights of 7 bits. What is quantised is always listed: the
quantiser's own list includes Softmax, which ruins the outputs.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import Unsupported
from raybench.models.conversion import Conversion
from raybench.models.fidelity import CAP_DB
from raybench.models.graph.graph_types import weighted_kinds
from raybench.models.passes.calibration import METHODS, observe
from raybench.models.passes.constant_weights import store_weights
from raybench.models.passes.gemm import plain_gemms
from raybench.models.passes.int8_flow import (
    WEIGHTED,
    last_products,
    nodes_for_int8,
    own_weights,
    patch_convolutions,
    weights_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import onnx

    from raybench.models.conversion import Fp32Graph
    from raybench.models.passes.calibration import Calibration

GOOD_DB = 35.0
"""Fidelity of a method from which no other is tried: another gained 0.0 to 0.5 dB there."""

LOSS_DB = 0.5
"""Loss of a method from which none is tried that cuts off more; less is chance of the items."""
POOR_DB = 30.0
"""Fidelity below which a network's last products are tried in float, if their weights are few."""
FEW_WEIGHTS = 0.02

_QDQ_OPSET = 13  # the first with one scale per channel
_IR = 4
_SKIP = "Identity"
_S8S8_OPS = [*WEIGHTED, "LRN", "GlobalAveragePool"]
"""Ops whose inputs are int8. The last three compute in float, but the ops before them write int8.
A residual branch in float makes ResNet-50 1.6 times slower (TensorRT 8.6 on an H100)."""
_S8S8: dict[str, Any] = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": [*_S8S8_OPS, _SKIP],
}
_U8S8_OPS = [*WEIGHTED, "Add", "Concat", "GlobalAveragePool", "Flatten", "MaxPool", "Relu"]
_U8S8: dict[str, Any] = {"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]}
"""What a product of matrices writes stays float unless the next op takes int8: the kernels of both
engines can, and int8 there would cost a transformer 2 dB."""
_INT8_PACK = 32
"""Channels that TensorRT's int8 kernels for matrix units process at a time."""


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Plan:
    """What is to be quantised of a graph, and how.

    Attributes:
        source: the fp32 graph.
        big: whether its weights are in external files.
        dialect: "s8s8", "u8s8" or "u8s7".
        nodes: names of the nodes to quantise.
        last: those after which no weighted one comes, if they are few.
        skips: names of the nodes that mark the skips of a residual network.
    """

    source: Path
    big: bool
    dialect: str
    nodes: tuple[str, ...]
    last: frozenset[str] = frozenset()
    skips: tuple[str, ...] = ()

    @property
    def kinds(self) -> list[str]:
        return [*(_S8S8_OPS if self.dialect == "s8s8" else _U8S8_OPS), _SKIP]

    @property
    def options(self) -> dict[str, Any]:
        return dict(_S8S8 if self.dialect == "s8s8" else _U8S8)

    def activations(self, graph: onnx.GraphProto) -> list[str]:
        """Return the values that need a range."""
        weights = {tensor.name for tensor in graph.initializer}
        names = set(self.nodes) | set(self.skips)
        found: dict[str, None] = {}
        for node in graph.node:
            if node.name in names:
                found |= dict.fromkeys([*node.input, *node.output])
        return [name for name in found if name and name not in weights]


@dataclass(frozen=True)
class _Trial:
    """A graph by one method of calibration: its folder, and its fidelity on further items.

    The fidelity is supposed to be good where the graph could not be judged.
    """

    method: str
    folder: Path
    sqnr_db: float
    judged: bool


def to_int8(dialect: str, graph: Fp32Graph, target: Path) -> Conversion:
    """Write the graph with Q/DQ in a dialect to `target` and return how it was made.

    The quantiser writes a temporary file beside the source: no other process may do so meanwhile.

    Raises:
        Unsupported: there is nothing to quantise.
    """
    import onnx

    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        plan = _plan(dialect, graph, Path(folder) / "source.onnx")
        names = plan.activations(onnx.load(plan.source, load_external_data=False).graph)
        calibration = observe(graph, plan.source, names)
        best = _best(plan, calibration, Path(folder) / target.name)
        for file in best.folder.iterdir():
            file.replace(target.parent / file.name)
    return Conversion(calibration=best.method, judged_sqnr_db=best.sqnr_db if best.judged else None)


def _best(plan: _Plan, calibration: Calibration, path: Path) -> _Trial:
    """Return the best graph over the methods of calibration.

    Where that is poor, the last product of a network is tried in float: each error in it reaches
    the outputs whole (BERT's pooler, 0.7 % of its weights, is worth 0.4 dB).
    """
    best: _Trial | None = None
    for method in METHODS:
        trial = _try(plan, calibration, method, path)
        if best is None or trial.sqnr_db > best.sqnr_db:
            best = trial
        if best.sqnr_db >= GOOD_DB or trial.sqnr_db < best.sqnr_db - LOSS_DB:
            break
    assert best is not None  # there are methods
    if best.sqnr_db < POOR_DB and plan.last:
        nodes = tuple(name for name in plan.nodes if name not in plan.last)
        trial = _try(replace(plan, nodes=nodes), calibration, best.method, path)
        return max(best, trial, key=lambda each: each.sqnr_db)
    return best


def _try(plan: _Plan, calibration: Calibration, method: str, path: Path) -> _Trial:
    """Write a graph under this name in a folder of its own, and judge it.

    A graph that ONNX Runtime cannot run is left to the engine that can: it counts as good.
    """
    folder = Path(tempfile.mkdtemp(dir=path.parent))
    _quantise(plan, calibration.ranges(method), folder / path.name)
    try:
        sqnr_db = calibration.sqnr_db(folder / path.name)
    except Exception as error:
        logger.info("The int8 graph was not judged", exc_info=error)
        return _Trial(method, folder, GOOD_DB, judged=False)
    return _Trial(method, folder, sqnr_db, judged=sqnr_db < CAP_DB)


def _plan(dialect: str, graph: Fp32Graph, copy: Path) -> _Plan:
    """Return what is to be quantised; where the graph must change for that, it goes to `copy`."""
    import onnx

    symmetric, big = dialect == "s8s8", graph.big
    source = _at_least_opset(graph.path, copy, big)
    model = onnx.load(source, load_external_data=not big)
    stored = not big and store_weights(model, WEIGHTED)
    changed, odd = plain_gemms(model)
    nodes = nodes_for_int8(model.graph, _S8S8_OPS if symmetric else _U8S8_OPS)
    # the patches are 0.7 % of ViT-B/16; written as int8, which s8s8 does not, they cost OpenVINO
    # 2026.4 10 dB (25.2 against 34.7 with two blocks): an error of two steps of their range
    floats = set(_odd_groups(model)) if symmetric else patch_convolutions(model.graph)
    floats |= odd | (changed if big else set())
    nodes = [name for name in nodes if name not in floats]
    if not nodes:
        raise Unsupported(
            f"int8 quantises {', '.join(WEIGHTED)} of the main graph (not of the bodies of If, Loop and "
            "Scan) whose second input is a stored weight and whose first is computed, and the graph has "
            f"none. Its operators with weights: {', '.join(weighted_kinds(model.graph)) or 'none'}. "
            "Use precision=fp32."
        )
    skips = _mark_skips(model) if symmetric and not big else []
    own = not big and own_weights(model.graph, {*nodes, *skips})
    if skips or own or stored or (changed and not big):
        source = copy
        onnx.save_model(model, source)
    last = last_products(model.graph, nodes)
    if weights_of(model.graph, last) > FEW_WEIGHTS * weights_of(model.graph, nodes):
        last = set()
    return _Plan(source, big, dialect, tuple(nodes), frozenset(last), tuple(skips))


def _quantise(plan: _Plan, ranges: Mapping[str, tuple[float, float]], target: Path) -> None:
    """Write the graph with Q/DQ for these ranges of its activations."""
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

    symmetric = plan.dialect == "s8s8"
    data = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    model = load_model_with_shape_infer(plan.source)
    _declare(model.graph, ranges)
    quantiser = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=plan.dialect == "u8s7",
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[*plan.nodes, *plan.skips],
        nodes_to_exclude=[],
        op_types_to_quantize=plan.kinds,
        extra_options=plan.options,
    )
    quantiser.quantize_model()
    quantiser.model.save_model_to_file(target, plan.big)
    if symmetric and not plan.big:
        _for_tensorrt(target, set(plan.skips))


def _declare(graph: onnx.GraphProto, floats: Collection[str]) -> None:
    """Declare values, seen to be fp32, whose type does not follow: behind an op of another domain.

    The quantiser leaves out what has no type.
    """
    from onnx import TensorProto, helper

    known = {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
    graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in floats
        if name not in known
    )


def _odd_groups(model: onnx.ModelProto) -> list[str]:
    """Return the names of the grouped convolutions without a fast int8 kernel in TensorRT.

    AlexNet's second one has 48 channels a group: TensorRT 8.6 on an H100 needs 3.0 ms for it in
    int8, 1.4 ms in fp32 and 0.2 ms in fp16 (batch 128). Depthwise ones have kernels of their own.
    """
    channels = {
        tensor.name: tensor.dims[1] for tensor in model.graph.initializer if tensor.dims[1:]
    }
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv"
        and any(a.name == "group" and a.i > 1 for a in node.attribute)
        and channels.get(node.input[1], 1) > 1
        and channels[node.input[1]] % _INT8_PACK
    ]


def _mark_skips(model: onnx.ModelProto) -> list[str]:
    """Mark one input of each sum of two convolutions, which is a block's projection, by a node.

    The quantiser quantises all inputs of an op or none. Of such a sum only one may be quantised:
    the other is computed together with the sum.

    Returns:
        Names of the nodes, which `_for_tensorrt` removes again.
    """
    from onnx import helper

    producers = {output: node.op_type for node in model.graph.node for output in node.output}
    sums = [
        node
        for node in model.graph.node
        if node.op_type == "Add" and [producers.get(x) for x in node.input] == ["Conv", "Conv"]
    ]
    names = []
    for node in sums:
        name = f"{node.input[1]}.skip"
        marker = helper.make_node(_SKIP, [node.input[1]], [name], name=name)
        model.graph.node.insert(list(model.graph.node).index(node), marker)
        node.input[1] = name
        names.append(name)
    return names


def _for_tensorrt(path: Path, skips: set[str]) -> None:
    """Remove the marks, and give sibling 1x1 convolutions different dilations.

    TensorRT 8.6 merges those that read the same tensor and then fails on their int8 outputs
    (chooseHigherPrecision; GoogLeNet's blocks, seen on an H100). The dilation of a 1x1 kernel has
    no effect except that it prevents the merge.
    """
    import onnx
    from onnx import helper

    model = onnx.load(path)
    marks = {node.output[0]: node for node in model.graph.node if node.name in skips}
    readers: Counter[str] = Counter()
    for node in model.graph.node:
        for index, value in enumerate(node.input):
            if value in marks:
                node.input[index] = marks[value].input[0]
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "Conv" and list(attributes["kernel_shape"].ints) == [1, 1]:
            readers[node.input[0]] += 1
            dilations = [readers[node.input[0]]] * 2
            if "dilations" in attributes:
                node.attribute.remove(attributes["dilations"])
            node.attribute.append(helper.make_attribute("dilations", dilations))
    for node in marks.values():
        model.graph.node.remove(node)
    onnx.save_model(model, path)


def _at_least_opset(source: Path, target: Path, big: bool) -> Path:
    """Return the source, or a converted copy at `target` if its opset is too old for Q/DQ."""
    import onnx
    from onnx import version_converter

    model = onnx.load(source, load_external_data=False)
    opset = max(
        (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        default=1,
    )
    if opset >= _QDQ_OPSET:
        return source
    if big:
        raise Unsupported(
            f"int8 needs opset {_QDQ_OPSET} and this large graph has {opset}. Export it with opset 17."
        )
    model = onnx.load(source)
    model.ir_version = max(model.ir_version, _IR)  # below it, the converter wants weights as inputs
    try:
        converted = version_converter.convert_version(model, _QDQ_OPSET)
    except Exception as error:  # the converter's own classes
        reason = " ".join(str(error).split()).rsplit(" failed: ", 1)[-1][:200]  # without its line
        raise Unsupported(
            f"int8 needs opset {_QDQ_OPSET} and this graph has {opset}, which ONNX's converter cannot "
            f"raise ({reason}). Export it with opset 17."
        ) from error
    onnx.save_model(converted, target)
    return target

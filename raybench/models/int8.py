"""The int8 graph: explicit Q/DQ in one of two dialects.

`s8s8` (TensorRT): symmetric, Q/DQ on the inputs of weighted ops, so that Conv and Relu stay
together, and wherever else a float tensor would keep a convolution from writing int8; biases stay
float. `u8s8` (OpenVINO, ONNX Runtime): asymmetric uint8 activations around every op that has an
int8 kernel. The ops to quantise are always listed: the quantiser's own list includes Softmax, which
ruins the outputs.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from raybench.errors import Unsupported
from raybench.models.batches import calibration_batches
from raybench.models.conversion import Conversion
from raybench.models.graph_types import weighted_kinds
from raybench.models.int8_flow import WEIGHTED, nodes_for_int8

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import onnx

    from raybench.models.conversion import Fp32Graph

CALIBRATION_BATCHES = 4
CALIBRATION_BATCH_SIZE = 2

_QDQ_OPSET = 13  # the first with one scale per channel
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


class _Reader:
    """Calibration data in the quantiser's interface: one batch a call, None at the end."""

    def __init__(self, source: Fp32Graph) -> None:
        self._batches = iter(
            calibration_batches(
                source.inputs,
                source.ranges,
                CALIBRATION_BATCHES,
                CALIBRATION_BATCH_SIZE,
                source.given,
            )
        )

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        return next(self._batches, None)


def to_int8(dialect: str, graph: Fp32Graph, target: Path) -> Conversion:
    """Write the graph with Q/DQ in a dialect to `target` and return how it was made.

    The quantiser writes a temporary file beside the source: no other process may do so meanwhile.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    symmetric, big = dialect == "s8s8", graph.big
    source = _at_least_opset(graph.path, target, big)
    model = onnx.load(source, load_external_data=False)
    kinds = _S8S8_OPS if symmetric else _U8S8_OPS
    chosen = nodes_for_int8(model.graph, kinds)
    if not chosen:
        raise Unsupported(
            f"int8 quantises {', '.join(WEIGHTED)} with stored weights, and the graph has none. Its "
            f"operators with weights: {', '.join(weighted_kinds(model.graph)) or 'none'}. "
            "Use precision=fp32."
        )
    skips: list[str] = []
    if symmetric:
        odd = set(_odd_groups(model))
        chosen = [name for name in chosen if name not in odd]
        if not big:
            skips = _mark_skips(model)
    if skips:
        source = target
        onnx.save_model(model, source)
    quantize_static(
        source,
        target,
        _Reader(graph),
        quant_format=QuantFormat.QDQ,
        calibrate_method=CalibrationMethod.MinMax,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=dialect == "u8s7",
        op_types_to_quantize=[*kinds, _SKIP],
        nodes_to_quantize=[*chosen, *skips],
        use_external_data_format=big,
        extra_options=dict(_S8S8 if symmetric else _U8S8),
    )
    if symmetric and not big:
        _for_tensorrt(target, set(skips))
    return Conversion(calibration="minmax")


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
    onnx.save_model(version_converter.convert_version(onnx.load(source), _QDQ_OPSET), target)
    return target

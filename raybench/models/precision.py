"""Passes that convert the fp32 graph to a reduced precision, from file to file.

int8 is written as explicit Q/DQ in one of two dialects. `s8s8` (TensorRT): symmetric, Q/DQ on the
inputs of weighted ops, so that Conv and Relu stay together, and wherever else a float tensor would
keep a convolution from writing int8; biases stay float. `u8s8` (OpenVINO, ONNX Runtime):
asymmetric uint8 activations around every op that has an int8 kernel. The ops to quantise are always
listed: the quantiser's own list includes Softmax, which ruins the outputs.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from raybench.errors import ConfigError, Unsupported, nearest
from raybench.experiment import PRECISIONS
from raybench.models.batches import calibration_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    import onnx

    from raybench.models.model import TensorSpec

VERSION = 4
"""Incremented when a pass makes another graph from the same source."""

OF_FP32 = ("fp32", "tf32", "bf16")
"""Precisions that have the fp32 graph; only the engine computes differently."""

DIALECTS = ("s8s8", "u8s8")
NATIVE = "native"
"""Dialect of an engine that computes the fp32 graph in bf16, as OpenVINO does by a hint."""

CALIBRATION_BATCHES = 4
CALIBRATION_BATCH_SIZE = 2
EXTERNAL_ABOVE_BYTES = 1_800_000_000  # a protobuf is limited to 2 GiB

_QDQ_OPSET = 13  # the first with one scale per channel
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_SKIP = "Identity"
_S8S8_OPS = [*_WEIGHTED, "LRN", "GlobalAveragePool", _SKIP]
"""Ops whose inputs are int8. The last three compute in float, but the ops before them write int8.
A residual branch in float makes ResNet-50 1.6 times slower (TensorRT 8.6 on an H100)."""
_S8S8: dict[str, Any] = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": list(_S8S8_OPS),
}
_U8S8_OPS = [*_WEIGHTED, "Add", "Concat", "GlobalAveragePool", "Flatten", "MaxPool", "Relu"]
_INT8_PACK = 32
"""Channels that TensorRT's int8 kernels for matrix units process at a time."""
_MISSING = {
    "bf16": "no pass writes bf16 into a graph yet; ONNX has bf16 convolutions only from opset 22",
    "fp8": "no pass writes an fp8 graph yet; it would need opset 19 and another calibration",
}


def refuse(precision: str, dialect: str | None) -> None:
    """Raise an error if a precision cannot be made.

    Raises:
        ConfigError: there is no such precision.
        Unsupported: no pass makes it. An engine that takes its types from the graph must not get
            the fp32 graph as bf16: it would silently run fp32.
        ValueError: int8 without one of `DIALECTS`.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"Precision {precision!r} is unknown. {nearest(precision, PRECISIONS)}")
    if precision in _MISSING and (precision, dialect) != ("bf16", NATIVE):
        raise Unsupported(
            f"Precision {precision!r} cannot be made: {_MISSING[precision]}. Use fp16 or int8."
        )
    if precision == "int8" and dialect not in DIALECTS:
        raise ValueError(f"int8 needs a dialect of {DIALECTS}, not {dialect!r}")


def convert(
    precision: str,
    dialect: str | None,
    source: Path,
    target: Path,
    inputs: tuple[TensorSpec, ...],
    ranges: Mapping[str, tuple[int, int]],
) -> None:
    """Convert the fp32 graph at `source` to fp16 or int8 and write it to `target`.

    The quantiser writes a temporary file beside `source`: no other process may do so meanwhile.
    """
    big = sum(file.stat().st_size for file in source.parent.iterdir()) > EXTERNAL_ABOVE_BYTES
    with _quiet():
        if precision == "fp16":
            _to_fp16(source, target, big)
        else:
            _to_int8(dialect, source, target, big, _Reader(inputs, ranges))


class _Reader:
    """Calibration data in the quantiser's interface: one batch a call, None at the end."""

    def __init__(
        self, inputs: tuple[TensorSpec, ...], ranges: Mapping[str, tuple[int, int]]
    ) -> None:
        self._batches = iter(
            calibration_batches(inputs, ranges, CALIBRATION_BATCHES, CALIBRATION_BATCH_SIZE)
        )

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        return next(self._batches, None)


def _to_fp16(source: Path, target: Path, big: bool) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = convert_float_to_float16(str(source), keep_io_types=True)
    OnnxModel.graph_topological_sort(
        model.graph
    )  # the casts of inputs and outputs were appended last
    onnx.save_model(
        model, target, save_as_external_data=big, location=f"{target.name}.data" if big else None
    )


def _to_int8(dialect: str | None, source: Path, target: Path, big: bool, reader: _Reader) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    symmetric = dialect == "s8s8"
    source = _at_least_opset(source, target, big)
    model = onnx.load(source, load_external_data=False)
    floats = [node.name for node in model.graph.node if node.op_type == _SKIP]
    if symmetric:
        floats += _odd_groups(model)
    skips = _mark_skips(model) if symmetric and not big else []
    if skips:
        source = target
        onnx.save_model(model, source)
    quantize_static(
        source,
        target,
        reader,
        quant_format=QuantFormat.QDQ,
        calibrate_method=CalibrationMethod.MinMax,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=_S8S8_OPS if symmetric else _u8s8_ops(model),
        nodes_to_exclude=floats,
        use_external_data_format=big,
        extra_options=dict(_S8S8) if symmetric else {},
    )
    if symmetric and not big:
        _for_tensorrt(target, set(skips))


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


def _u8s8_ops(model: onnx.ModelProto) -> list[str]:
    """Return the ops to quantise; the sums of a transformer's residual stream stay float.

    In uint8 they would cost 3 dB: 23.7 against 26.5 dB for bert_base, 22.0 against 25.1 for vit_b16.
    """
    transformer = any(node.op_type == "LayerNormalization" for node in model.graph.node)
    return [kind for kind in _U8S8_OPS if not (transformer and kind == "Add")]


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice, which does not apply here, out of the log."""
    root = logging.getLogger()
    silent, level = logging.NullHandler(), logging.root.manager.disable
    root.addHandler(silent)  # else its logging.warning() would configure the root logger
    logging.disable(max(level, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(level)
        root.removeHandler(silent)

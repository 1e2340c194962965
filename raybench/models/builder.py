"""Writing an fp32 ONNX graph node by node, with seeded random weights.

Every op appends one node and returns the name of its output, which is the node's name too. The
topology comes first; `model(seed)` then fills the weights, so the same recipe also gives a graph
without values (`model(None)`), which is enough to count and to check.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from raybench.models.model import TensorSpec

OPSET = 17
IR_VERSION = 8
BIAS_STD = 0.01
_ROOT3 = math.sqrt(3.0)  # a uniform draw of this bound has standard deviation 1


@dataclass(frozen=True)
class Weight:
    """One weight tensor: `centre` plus a uniform draw in [-bound, bound).

    Attributes:
        name: name in the graph; it seeds the values, so building order does not matter.
        shape: shape in the graph.
        bound: half the width of the distribution; 0 for a constant.
        centre: middle of the distribution.
    """

    name: str
    shape: tuple[int, ...]
    bound: float
    centre: float = 0.0

    def values(self, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return float32 values of `shape`: for one seed and name the same bytes on any machine."""
        if self.bound == 0:
            return np.full(self.shape, self.centre, np.float32)
        bits = np.random.SFC64([seed, zlib.crc32(self.name.encode())])
        values = np.random.Generator(bits).random(self.shape, np.float32)
        values *= np.float32(2 * self.bound)
        values += np.float32(self.centre - self.bound)
        return values


class GraphBuilder:
    """Nodes, weights and constants of one graph, in the order they are added.

    Args:
        name: name of the graph.
        inputs: the graph's inputs; images are (N, channels, height, width).
    """

    def __init__(self, name: str, inputs: Sequence[TensorSpec]) -> None:
        self._name = name
        self._inputs = tuple(inputs)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, Weight] = {}
        self._constants: dict[str, np.ndarray[Any, Any]] = {}
        self._count: dict[str, int] = {}
        self._channels = {spec.name: spec.shape[1] for spec in inputs if len(spec.shape) > 1}

    def channels(self, value: str) -> int:
        """Return the channels (axis 1 of an image, last axis of features) of a value."""
        return int(self._channels[value])

    def op(
        self,
        kind: str,
        *inputs: str,
        name: str | None = None,
        channels: int | None = None,
        **attributes: Any,
    ) -> str:
        """Append a node; its channels default to those of its first input."""
        from onnx import helper

        label = name or self._label(kind)
        self._nodes.append(helper.make_node(kind, list(inputs), [label], name=label, **attributes))
        self._channels[label] = (
            channels if channels is not None else self._channels.get(inputs[0], 0)
        )
        return label

    def weight(self, name: str, shape: Sequence[int], bound: float, centre: float = 0.0) -> str:
        """Declare a float32 weight, drawn from [centre - bound, centre + bound)."""
        self._weights[name] = Weight(name, tuple(shape), bound, centre)
        return name

    def constant(self, name: str, values: Any, dtype: str = "int64") -> str:
        """Declare a constant; the same name twice is the same constant."""
        self._constants[name] = np.asarray(values, dtype)
        return name

    def conv(
        self,
        x: str,
        channels: int,
        kernel: int,
        stride: int = 1,
        pad: int = 0,
        groups: int = 1,
        gain: float = 1.0,
        relu: bool = True,
    ) -> str:
        """Append a convolution with bias; He-uniform weights: variance gain^2 x 2 / fan-in."""
        label = self._label("Conv")
        into = self.channels(x) // groups
        fan_in = into * kernel * kernel
        w = self.weight(
            f"{label}.w", (channels, into, kernel, kernel), gain * math.sqrt(6.0 / fan_in)
        )
        b = self.weight(f"{label}.b", (channels,), BIAS_STD * _ROOT3)
        attributes = {
            "kernel_shape": [kernel] * 2,
            "strides": [stride] * 2,
            "pads": [pad] * 4,
            "group": groups,
        }
        y = self.op("Conv", x, w, b, name=label, channels=channels, **attributes)
        return self.op("Relu", y, name=f"{label}.relu") if relu else y

    def fc(self, x: str, features: int, relu: bool = False) -> str:
        """Append a fully connected layer: Gemm with He-uniform weights (features, inputs)."""
        label = self._label("fc")
        into = self.channels(x)
        w = self.weight(f"{label}.w", (features, into), math.sqrt(6.0 / into))
        b = self.weight(f"{label}.b", (features,), BIAS_STD * _ROOT3)
        y = self.op("Gemm", x, w, b, name=label, channels=features, transB=1)
        return self.op("Relu", y, name=f"{label}.relu") if relu else y

    def linear(self, x: str, features: int, label: str, bias: bool = True) -> str:
        """Append a transformer's dense layer: MatMul with weights (inputs, features), then Add."""
        into = self.channels(x)
        w = self.weight(f"{label}.w", (into, features), _ROOT3 / math.sqrt(into))
        y = self.op("MatMul", x, w, name=label, channels=features)
        if not bias:
            return y
        b = self.weight(f"{label}.b", (features,), BIAS_STD * _ROOT3)
        return self.op("Add", y, b, name=f"{label}.add")

    def table(self, name: str, shape: Sequence[int], std: float = 0.02) -> str:
        """Declare an embedding or position table of this standard deviation."""
        return self.weight(name, shape, std * _ROOT3)

    def layer_norm(self, x: str, epsilon: float) -> str:
        """Append a LayerNormalization over the last axis; gamma 1, beta 0."""
        label = self._label("LayerNormalization")
        size = self.channels(x)
        gamma = self.weight(f"{label}.w", (size,), 0.0, 1.0)
        beta = self.weight(f"{label}.b", (size,), 0.0)
        return self.op("LayerNormalization", x, gamma, beta, name=label, axis=-1, epsilon=epsilon)

    def maxpool(self, x: str, kernel: int, stride: int, pads: Sequence[int] = (0, 0, 0, 0)) -> str:
        """Append max pooling; pads are (top, left, bottom, right)."""
        return self.op(
            "MaxPool", x, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=list(pads)
        )

    def lrn(self, x: str) -> str:
        """Append local response normalisation across channels, with AlexNet's constants."""
        return self.op("LRN", x, size=5, alpha=1e-4, beta=0.75, bias=1.0)

    def classifier(self, x: str, classes: int = 1000) -> str:
        """Append flatten, fully connected layer and softmax."""
        return self.op("Softmax", self.fc(self.op("Flatten", x, axis=1), classes), axis=1)

    def model(self, output: str, shape: Sequence[int | str], seed: int | None) -> onnx.ModelProto:
        """Return the graph, with `output` renamed "output". Without a seed, weights have no values."""
        from onnx import TensorProto, helper, numpy_helper

        for node in self._nodes:
            if node.output[0] == output:
                node.name = node.output[0] = "output"
        tensors = [
            numpy_helper.from_array(values, name) for name, values in self._constants.items()
        ]
        for weight in self._weights.values():
            tensor = TensorProto(name=weight.name, dims=weight.shape, data_type=TensorProto.FLOAT)
            if seed is not None:
                tensor.raw_data = weight.values(seed).astype("<f4", copy=False).tobytes()
            tensors.append(tensor)
        inputs = [
            helper.make_tensor_value_info(
                spec.name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), spec.shape
            )
            for spec in self._inputs
        ]
        outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, list(shape))]
        graph = helper.make_graph(self._nodes, self._name, inputs, outputs, tensors)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(
            graph, ir_version=IR_VERSION, opset_imports=opset, producer_name="raybench"
        )

    def _label(self, kind: str) -> str:
        kind = kind.lower()
        self._count[kind] = self._count.get(kind, 0) + 1
        return f"{kind}_{self._count[kind]}"

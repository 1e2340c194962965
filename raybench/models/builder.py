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
    from collections.abc import Iterator, Sequence

    import onnx

    from raybench.models.model import TensorSpec

OPSET = 17
IR_VERSION = 8
BIAS_STD = 0.01
_BLOCK = 1 << 22
"""Values of a weight that are drawn at a time where the whole may not fit into memory."""
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
        return self._drawn(self._generator(seed), self.shape)

    def blocks(self, seed: int, dtype: str) -> Iterator[np.ndarray[Any, Any]]:
        """Yield these values in the order of memory, a block at a time, rounded to a type."""
        stored = np.dtype(dtype).newbyteorder("<")
        generator = self._generator(seed)
        for start in range(0, math.prod(self.shape), _BLOCK):
            count = min(_BLOCK, math.prod(self.shape) - start)
            yield self._drawn(generator, (count,)).astype(stored, copy=False)

    def _generator(self, seed: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([seed, zlib.crc32(self.name.encode())]))

    def _drawn(
        self, generator: np.random.Generator, shape: tuple[int, ...]
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        values = generator.random(shape, np.float32)
        values *= np.float32(2 * self.bound)
        values += np.float32(self.centre - self.bound)
        return values


class GraphBuilder:
    """Nodes, weights and constants of one graph, in the order they are added.

    Args:
        name: name of the graph.
        inputs: the graph's inputs; images are (N, channels, height, width).
        dtype: element type of the weights.
    """

    def __init__(self, name: str, inputs: Sequence[TensorSpec], dtype: str = "float32") -> None:
        self._name = name
        self.dtype = dtype
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

    def cast(self, x: str, dtype: str) -> str:
        """Append a cast in a graph whose weights are not fp32, in which nothing needs one."""
        from onnx import helper

        if self.dtype == "float32":
            return x
        return self.op("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

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

    def model(self, outputs: Sequence[TensorSpec], seed: int | None) -> onnx.ModelProto:
        """Return the graph with these values as its outputs. Without a seed, weights have no values."""
        from onnx import TensorProto, helper, numpy_helper

        tensors = [
            numpy_helper.from_array(values, name) for name, values in self._constants.items()
        ]
        for weight in self._weights.values():
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
            tensor = TensorProto(name=weight.name, dims=weight.shape, data_type=kind)
            if seed is not None:
                tensor.raw_data = b"".join(map(bytes, weight.blocks(seed, self.dtype)))
            tensors.append(tensor)
        inputs, given = (list(map(_described, specs)) for specs in (self._inputs, outputs))
        graph = helper.make_graph(self._nodes, self._name, inputs, given, tensors)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(
            graph, ir_version=IR_VERSION, opset_imports=opset, producer_name="raybench"
        )

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The weights that were declared, in the order of the graph."""
        return tuple(self._weights.values())

    def rename(self, value: str, name: str) -> None:
        """Give the node of the last value another name."""
        for node in self._nodes:
            if node.output[0] == value:
                node.name = node.output[0] = name

    def _label(self, kind: str) -> str:
        kind = kind.lower()
        self._count[kind] = self._count.get(kind, 0) + 1
        return f"{kind}_{self._count[kind]}"


def _described(spec: TensorSpec) -> onnx.ValueInfoProto:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, kind, spec.shape)

"""Small graphs on which raybench once went wrong, each for a kind of graph that people have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from helpers.tiny_graphs import graph_of
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

FLOAT, HALF, INT64, STRING = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.INT64,
    TensorProto.STRING,
)
CHANNELS = 64
TOKENS = ["batch", 16, CHANNELS]

node = helper.make_node


@dataclass(frozen=True)
class GraphCase:
    """A graph and what it stands for."""

    name: str
    stands_for: str
    build: Callable[[], onnx.ModelProto]


CASES: dict[str, GraphCase] = {}


def case(
    stands_for: str,
) -> Callable[[Callable[[], onnx.ModelProto]], Callable[[], onnx.ModelProto]]:
    """Register a function as a case under its name."""

    def register(build: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
        CASES[build.__name__] = GraphCase(build.__name__, stands_for, build)
        return build

    return register


def drawn(*shape: int, scale: float = 0.2, seed: int = 1) -> np.ndarray:
    """Return seeded normal weights."""
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(np.float32)


def flat(nodes, weights=None, width=8, **more) -> onnx.ModelProto:
    """Return a graph from x to y, both [batch, width]."""
    inputs, outputs = [("x", FLOAT, ["batch", width])], [("y", FLOAT, ["batch", width])]
    return graph_of(nodes, inputs, outputs, weights, **more)


def image(nodes, weights, outputs) -> onnx.ModelProto:
    """Return a graph of images, x of [batch, 4, 8, 8]."""
    return graph_of(nodes, [("x", FLOAT, ["batch", 4, 8, 8])], [("y", FLOAT, outputs)], weights)


def classifier(name="{}", kernel=True, output="y", more=()) -> onnx.ModelProto:
    """Return Conv, Relu, pooling and Gemm; `name` is the pattern of the nodes' names."""
    known = {"kernel_shape": [3, 3]} if kernel else {}
    nodes = [
        node("Conv", ["x", "cw", "cb"], ["c1"], name.format("conv"), pads=[1, 1, 1, 1], **known),
        node("Relu", ["c1"], ["r1"], name.format("relu")),
        node("GlobalAveragePool", ["r1"], ["gp"], name.format("pool")),
        node("Flatten", ["gp"], ["fl"], name.format("flat")),
        node("Gemm", ["fl", "gw", "gb"], [output], name.format("fc"), transB=1),
        *more,
    ]
    weights = {"cw": drawn(8, 3, 3, 3), "cb": drawn(8), "gw": drawn(10, 8), "gb": drawn(10)}
    x, y = ("x", FLOAT, ["batch", 3, 16, 16]), ("y", FLOAT, ["batch", 10])
    return graph_of(nodes, [x], [y], weights)


# --- reduced already ------------------------------------------------------------------------------


@case("quantised by ONNX Runtime's own tool, in an operator of com.microsoft")
def dynquant_ms() -> onnx.ModelProto:
    nodes = [
        node("DynamicQuantizeMatMul", ["x", "W", "s", "z"], ["y"], "dq", domain="com.microsoft")
    ]
    whole = np.random.default_rng(1).integers(-100, 100, (8, 8)).astype(np.int8)
    weights = {"W": whole, "s": np.array(0.01, np.float32), "z": np.array(0, np.int8)}
    model = flat(nodes, weights)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


@case("half weights in a Constant node between casts")
def fp16_in_constant() -> onnx.ModelProto:
    half = numpy_helper.from_array(drawn(8, 8).astype(np.float16), "W16")
    nodes = [
        node("Constant", [], ["W"], "k", value=half),
        node("Cast", ["x"], ["xh"], "c", to=HALF),
        node("MatMul", ["xh", "W"], ["yh"], "mm"),
        node("Cast", ["yh"], ["y"], "c2", to=FLOAT),
    ]
    return flat(nodes)


def _branches(then, other, weights=None, **more) -> onnx.ModelProto:
    """Return an If on the sign of the input's sum, with two branches that read x from outside."""
    graphs = [
        helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info(f"{name}_y", FLOAT, ["batch", 8])]
        )
        for name, nodes in (("then", then), ("other", other))
    ]
    nodes = [
        node("ReduceSum", ["x"], ["sum"], "sum", keepdims=0),
        node("Greater", ["sum", "zero"], ["positive"], "sign"),
        node("If", ["positive"], ["y"], "if", then_branch=graphs[0], else_branch=graphs[1]),
    ]
    return flat(nodes, {"zero": np.array(0, np.float32), **(weights or {})}, **more)


@case("half operators inside a subgraph")
def half_in_if() -> onnx.ModelProto:
    then = [
        node("Cast", ["x"], ["xh"], "down", to=HALF),
        node("MatMul", ["xh", "W16"], ["yh"], "mm"),
        node("Cast", ["yh"], ["then_y"], "up", to=FLOAT),
    ]
    half = drawn(8, 8).astype(np.float16)
    return _branches(then, [node("Identity", ["x"], ["other_y"], "same")], {"W16": half})


# --- nothing to quantise, or nothing that a pass sees ---------------------------------------------


@case("an Identity and other nodes without names")
def nameless_identity() -> onnx.ModelProto:
    return classifier("", output="y0", more=[node("Identity", ["y0"], ["y"])])


@case("no weights at all")
def onlyrelu() -> onnx.ModelProto:
    shape = ["batch", 3, 64, 64]
    return graph_of([node("Relu", ["x"], ["y"], "r")], [("x", FLOAT, shape)], [("y", FLOAT, shape)])


@case("a decoder: only transposed convolutions")
def convtranspose() -> onnx.ModelProto:
    nodes = [node("ConvTranspose", ["x", "cw"], ["y"], "c", kernel_shape=[2, 2], strides=[2, 2])]
    return image(nodes, {"cw": drawn(4, 6, 2, 2)}, ["batch", 6, 16, 16])


@case("a recurrent network, which reads the batch as its second dimension")
def lstm() -> onnx.ModelProto:
    nodes = [
        node("LSTM", ["x", "LW", "LR"], ["", "yh"], "lstm", hidden_size=6, layout=0),
        node("Squeeze", ["yh", "a0"], ["y"], "sq"),
    ]
    weights = {"LW": drawn(1, 24, 4), "LR": drawn(1, 24, 6), "a0": np.array([0])}
    return graph_of(nodes, [("x", FLOAT, ["batch", 5, 4])], [("y", FLOAT, None)], weights)


@case("all the work inside subgraphs")
def if_only() -> onnx.ModelProto:
    then = [node("MatMul", ["x", "W"], ["then_y"], "m1")]
    other = [node("MatMul", ["x", "V"], ["other_y"], "m2")]
    return _branches(then, other, {"W": drawn(8, 8), "V": drawn(8, 8, seed=2)})


# --- legal graphs of which a bad int8 graph was made ----------------------------------------------


@case("a convolution that leaves its kernel's shape to its weights")
def no_kernel_shape() -> onnx.ModelProto:
    return classifier(kernel=False)


_CONV = node("Conv", ["x", "cw"], ["c"], "cv", kernel_shape=[1, 1])
_SUM = [node("Add", ["c", "b"], ["s"], "ad"), node("Relu", ["s"], ["y"], "r")]


@case("a bias that an exporter left as an Add")
def bias_add() -> onnx.ModelProto:
    weights = {"cw": drawn(6, 4, 1, 1), "b": drawn(1, 6, 1, 1)}
    return image([_CONV, *_SUM], weights, ["batch", 6, 8, 8])


@case("a bias that is reshaped in the graph, as Paddle's exporter writes it")
def bias_add_reshape() -> onnx.ModelProto:
    weights = {"cw": drawn(6, 4, 1, 1), "b0": drawn(6), "sh": np.array([1, 6, 1, 1])}
    nodes = [_CONV, node("Reshape", ["b0", "sh"], ["b"], "rs"), *_SUM]
    return image(nodes, weights, ["batch", 6, 8, 8])


@case("a linear layer of parts: MatMul, Add, Relu")
def matmul_bias() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "W"], ["m"], "mm"),
        node("Add", ["m", "b"], ["s"], "ad"),
        node("Relu", ["s"], ["y"], "r"),
    ]
    shape = ["batch", 5, 8]
    weights = {"W": drawn(8, 8), "b": drawn(8)}
    return graph_of(nodes, [("x", FLOAT, shape)], [("y", FLOAT, shape)], weights)


def _layer_norm(x: str, y: str) -> list[onnx.NodeProto]:
    return [
        node("ReduceMean", [x], ["mean"], axes=[-1]),
        node("Sub", [x, "mean"], ["centred"]),
        node("Mul", ["centred", "centred"], ["square"]),
        node("ReduceMean", ["square"], ["variance"], axes=[-1]),
        node("Add", ["variance", "eps"], ["above"]),
        node("Sqrt", ["above"], ["deviation"]),
        node("Div", ["centred", "deviation"], [y]),
    ]


@case("a LayerNorm of parts over tokens of very different size, as exported below opset 17")
def ln_tokens() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "W1"], ["h0"], "a"),
        node("Mul", ["h0", "s"], ["h"], "m"),
        *_layer_norm("h", "n"),
        node("MatMul", ["n", "W2"], ["y"], "b"),
    ]
    sizes = np.logspace(-2, 1, 16, dtype=np.float32)[None, :, None]
    square = drawn(CHANNELS, CHANNELS, scale=1 / 8)
    weights = {"W1": square, "W2": square.T.copy(), "s": sizes, "eps": np.array(1e-6, np.float32)}
    return graph_of(nodes, [("x", FLOAT, TOKENS)], [("y", FLOAT, TOKENS)], weights)


@case("a GELU of parts by tanh, as GPT-2 has it")
def tanh_gelu() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "W1"], ["h"], "a"),
        node("Mul", ["h", "h"], ["h2"]),
        node("Mul", ["h2", "h"], ["h3"]),
        node("Mul", ["h3", "cubic"], ["c"]),
        node("Add", ["h", "c"], ["i"]),
        node("Mul", ["i", "root"], ["j"]),
        node("Tanh", ["j"], ["t"]),
        node("Add", ["t", "one"], ["u"]),
        node("Mul", ["h", "u"], ["v"]),
        node("Mul", ["v", "half"], ["g"]),
        node("MatMul", ["g", "W2"], ["y"], "b"),
    ]
    numbers = {"cubic": 0.044715, "root": 0.7978846, "one": 1.0, "half": 0.5}
    weights = {name: np.array(value, np.float32) for name, value in numbers.items()}
    weights |= {"W1": drawn(CHANNELS, CHANNELS, scale=0.3), "W2": drawn(CHANNELS, CHANNELS, seed=2)}
    return graph_of(nodes, [("x", FLOAT, TOKENS)], [("y", FLOAT, TOKENS)], weights)


# --- half precision -------------------------------------------------------------------------------


@case("an RMS norm whose sum of squares passes 65504")
def rms_half() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "W1"], ["h"], "a"),
        node("Mul", ["h", "h"], ["square"]),
        node("ReduceSum", ["square", "last"], ["sum"], "sum", keepdims=1),
        node("Mul", ["sum", "share"], ["mean"]),
        node("Sqrt", ["mean"], ["size"]),
        node("Div", ["h", "size"], ["n"]),
        node("MatMul", ["n", "W2"], ["y"], "b"),
    ]
    weights = {
        "W1": drawn(512, 512, scale=1.2),
        "W2": drawn(512, 512, scale=1 / 20, seed=2),
        "last": np.array([-1]),
        "share": np.array(1 / 512, np.float32),
    }
    return flat(nodes, weights, width=512)


# --- names, outputs, shapes -----------------------------------------------------------------------


@case("an output that an engine merges with another tensor, so that its port has two names")
def two_names() -> onnx.ModelProto:
    nodes = [node("MatMul", ["x", "W"], ["a"], "m"), node("Identity", ["a"], ["y"], "i")]
    return flat(nodes, {"W": drawn(8, 8)})


@case("nodes that all have one name, which ONNX Runtime refuses and OpenVINO takes")
def duplicate_names() -> onnx.ModelProto:
    return classifier("same")


@case("an output of strings")
def string_output() -> onnx.ModelProto:
    nodes = [node("Cast", ["x"], ["y"], "i", to=STRING)]
    return graph_of(nodes, [("x", FLOAT, ["batch", 4])], [("y", STRING, ["batch", 4])])


@case("dimensions with dots in their names, as Paddle's exporter writes them")
def dotted_dims() -> onnx.ModelProto:
    dims = ["p2o.DynamicDimension.0", 3, "p2o.DynamicDimension.1", "p2o.DynamicDimension.2"]
    return graph_of([node("Relu", ["x"], ["y"], "r")], [("x", FLOAT, dims)], [("y", FLOAT, None)])


@case("one symbol for two sizes that need not be equal")
def question_marks() -> onnx.ModelProto:
    nodes = [node("ReduceMean", ["x"], ["y"], "r", axes=[2, 3], keepdims=0)]
    return graph_of(nodes, [("x", FLOAT, [-1, 3, "?", "?"])], [("y", FLOAT, [-1, 3])])


@case("a batch that is not the first dimension")
def batch_second() -> onnx.ModelProto:
    shape = [7, "batch", 4]
    nodes = [node("MatMul", ["x", "W"], ["y"], "mm")]
    return graph_of(nodes, [("x", FLOAT, shape)], [("y", FLOAT, shape)], {"W": drawn(4, 4)})


@case("a state whose batch is its second dimension, beside an input whose batch is its first")
def state_second() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "W"], ["h"], "mm"),
        node("Add", ["state", "h"], ["next"], "step"),
        node("ReduceMean", ["next"], ["y"], "mean", axes=[0], keepdims=0),
    ]
    state = [2, "batch", 8]
    inputs = [("x", FLOAT, ["batch", 8]), ("state", FLOAT, state)]
    outputs = [("y", FLOAT, ["batch", 8]), ("next", FLOAT, state)]
    return graph_of(nodes, inputs, outputs, {"W": drawn(8, 8)})


@case("a graph without a node")
def empty() -> onnx.ModelProto:
    same = [("x", FLOAT, ["batch", 4])]
    return graph_of([], same, same)


@case("an input that is an output as well")
def output_is_input() -> onnx.ModelProto:
    shape = ["batch", 8]
    outputs = [("hh", FLOAT, shape), ("x", FLOAT, shape)]
    nodes = [node("MatMul", ["x", "W"], ["hh"], "mm")]
    return graph_of(nodes, [("x", FLOAT, shape)], outputs, {"W": drawn(8, 8)})


@case("an output that is listed twice")
def output_twice() -> onnx.ModelProto:
    model = flat([node("MatMul", ["x", "W"], ["y"], "mm")], {"W": drawn(8, 8)})
    model.graph.output.append(model.graph.output[0])
    return model


@case("a table in a Constant node, from which the ids take their range")
def gather_in_constant() -> onnx.ModelProto:
    table = numpy_helper.from_array(drawn(1000, 8, scale=1), "E")
    nodes = [node("Constant", [], ["E"], value=table), node("Gather", ["E", "ids"], ["y"], "g")]
    return graph_of(nodes, [("ids", INT64, ["batch", 4])], [("y", FLOAT, ["batch", 4, 8])])


@case("an output whose batch is its second dimension")
def time_first_output() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "W"], ["h"], "mm"),
        node("Transpose", ["h"], ["y"], "t", perm=[1, 0, 2]),
    ]
    outputs = [("y", FLOAT, [5, "batch", 8])]
    return graph_of(nodes, [("x", FLOAT, ["batch", 5, 8])], outputs, {"W": drawn(8, 8)})


@case("a file exported at batch 1, with a state")
def two_static_inputs() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "W"], ["h"], "mm"),
        node("ReduceMean", ["state"], ["sm"], "rm", axes=[0], keepdims=0),
        node("Add", ["h", "sm"], ["y"], "ad"),
    ]
    inputs = [("x", FLOAT, [1, 16]), ("state", FLOAT, [2, 1, 8])]
    return graph_of(nodes, inputs, [("y", FLOAT, [1, 8])], {"W": drawn(16, 8)})


@case("an input that is one number: a sample rate, a threshold")
def scalar_input() -> onnx.ModelProto:
    nodes = [node("Cast", ["rate"], ["rf"], "c", to=FLOAT), node("Mul", ["x", "rf"], ["y"], "m")]
    shape = ["batch", 8]
    inputs = [("x", FLOAT, shape), ("rate", INT64, [])]
    return graph_of(nodes, inputs, [("y", FLOAT, shape)])

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper, parser

from raybench.experiment import ModelSettings
from raybench.models.fidelity import fidelity
from raybench.models.graph.cpu_run import run
from raybench.models.graph.graph_walk import graphs_of
from raybench.models.passes.half_check import rounded
from raybench.models.passes.half_graph import half_graph, to_half
from raybench.models.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from raybench.models.model import Model

RMS = """
g (float[batch,512] x) => (float[batch,512] y) {
  h = MatMul(x, W1)
  sq = Mul(h, h)
  s = ReduceSum <keepdims = 1> (sq, last)
  v = Mul(s, inv)
  sd = Sqrt(v)
  n = Div(h, sd)
  y = MatMul(n, W2)
}"""
LAYER_NORM = """
g (float[batch,16,8] x) => (float[batch,16,8] y) {
  mu = ReduceMean <axes = [-1]> (x)
  d = Sub(x, mu)
  sq = Pow(d, two)
  var = ReduceMean <axes = [-1]> (sq)
  ve = Add(var, eps)
  sd = Sqrt(ve)
  n = Div(d, sd)
  y = Mul(n, gamma)
}"""
MEAN_OF_SQUARES = """
g (float[batch,16,8] x) => (float[batch,16,8] y) {
  big = Mul(x, hundred)
  far = Add(big, hundred)
  mu = ReduceMean <axes = [-1]> (far)
  sq = Mul(far, far)
  e = ReduceMean <axes = [-1]> (sq)
  mu2 = Mul(mu, mu)
  var = Sub(e, mu2)
  sd = Sqrt(var)
  r = Reciprocal(sd)
  d = Sub(far, mu)
  y = Mul(d, r)
}"""
NORMS = {"rms": RMS, "layer": LAYER_NORM, "mean_of_squares": MEAN_OF_SQUARES}


def graph(text: str, **weights: Any) -> onnx.ModelProto:
    model = parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>' + text)
    rng = np.random.default_rng(1)
    weights = {
        "W1": rng.standard_normal((512, 512)) * 1.2,
        "W2": rng.standard_normal((512, 512)) / 20,
        "last": np.array([-1]),
        "inv": 1 / 512,
        "two": 2.0,
        "eps": 1e-6,
        "gamma": np.ones(8),
        "hundred": 100.0,
        **weights,
    }
    used = {name for node in nodes(model.graph) for name in node.input}
    for name, value in weights.items():
        array = np.asarray(value)
        array = array if array.dtype.kind == "i" else array.astype(np.float32)
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    for index, node in enumerate(nodes(model.graph)):
        node.name = f"node_{index}"
    return model


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in graphs_of(node):
            yield from nodes(inner)


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in nodes(model.graph))


@pytest.fixture
def fp16(saved: Callable[..., str], tmp_path: Path) -> Callable[..., Model]:
    def make(model: onnx.ModelProto) -> Model:
        return prepare(saved(model), ModelSettings(), "fp16", None, tmp_path / "cache")

    return make


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_of_single_ops_stays_in_fp32(name: str, fp16: Callable[..., Model]) -> None:
    model = fp16(graph(NORMS[name]))
    made = model.conversion
    assert made.rounded_sqnr_db is not None
    assert made.rounded_sqnr_db >= 40
    assert {"ReduceSum", "ReduceMean"} & set(made.kept_fp32_ops)
    assert made.notes == ()


def test_a_norm_exchanges_fp32_values_and_is_cast_once_at_each_border(
    fp16: Callable[..., Model],
) -> None:
    model = fp16(graph(RMS))
    assert model.conversion.kept_fp32_ops == ("Mul", "ReduceSum", "Sqrt", "Div")
    made = onnx.load(model.path)
    assert " ".join(node.op_type for node in made.graph.node) == (
        "Cast MatMul Cast Mul ReduceSum Mul Sqrt Div Cast MatMul Cast"
    )
    kinds = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert kinds["inv"] == onnx.TensorProto.FLOAT
    assert kinds["W1_half"] == kinds["W2_half"] == onnx.TensorProto.FLOAT16


def test_without_its_norm_in_fp32_the_check_sees_that_nothing_is_left() -> None:
    inputs = {"x": np.random.default_rng(2).uniform(-1, 1, (2, 512)).astype(np.float32)}
    half = half_graph(graph(RMS), ())
    assert half.kept == ()
    reference = run(lambda: graph(RMS), inputs, ["y"], False)
    found = fidelity(reference, run(lambda: rounded(half.model), inputs, ["y"], False), ())
    assert found is not None
    assert found.sqnr_db < 1


@pytest.mark.parametrize("scale", [3e4, 1e-6])
def test_values_out_of_range_stay_in_fp32(scale: float, fp16: Callable[..., Model]) -> None:
    text = """
    g (float[batch,8] x) => (float[batch,8] y) {
      far = Mul(x, scale)
      e = Add(far, far)
      near = Mul(e, back)
      y = Relu(near)
    }"""
    made = fp16(graph(text, scale=scale, back=1 / scale)).conversion
    assert made.kept_fp32_ops == ("Mul", "Add")
    assert made.rounded_sqnr_db is not None
    assert made.rounded_sqnr_db > 60


@pytest.mark.parametrize(("least", "kept"), [(0.01, ()), (1e-6, ("Mul", "Div"))])
def test_a_divisor_with_a_value_below_the_smallest_half_stays_in_fp32(
    least: float, kept: tuple[str, ...], fp16: Callable[..., Model]
) -> None:
    text = """
    g (float[batch,8] x) => (float[batch,8] y) {
      d = Mul(x, sizes)
      q = Div(d, d)
      y = Add(q, x)
    }"""
    sizes = np.array([least, *[1.0] * 7])
    assert fp16(graph(text, sizes=sizes)).conversion.kept_fp32_ops == kept


@pytest.mark.parametrize(("scale", "kept"), [(10.0, ()), (1000.0, ("LayerNormalization",))])
def test_a_norm_whose_squares_exceed_half_precision_inside_stays_in_fp32(
    scale: float, kept: tuple[str, ...], fp16: Callable[..., Model]
) -> None:
    text = """
    g (float[batch,8] x) => (float[batch,8] y) {
      h = Mul(x, scale)
      n = LayerNormalization(h, gamma)
      y = Mul(n, x)
    }"""
    assert fp16(graph(text, scale=scale)).conversion.kept_fp32_ops == kept


def test_a_mask_of_the_most_negative_number_costs_nothing(fp16: Callable[..., Model]) -> None:
    text = """
    g (float[batch,8,8] x) => (float[batch,8,8] y) {
      masked = Add(x, mask)
      p = Softmax <axis = -1> (masked)
      y = MatMul(p, x)
    }"""
    mask = np.triu(np.full((8, 8), np.finfo(np.float32).min), 1)
    made = fp16(graph(text, mask=mask)).conversion
    assert made.kept_fp32_ops == ()
    assert made.rounded_sqnr_db is not None
    assert made.rounded_sqnr_db > 60


def test_an_output_that_is_an_input_is_left_alone(fp16: Callable[..., Model]) -> None:
    text = (
        "g (float[batch,512] x) => (float[batch,512] h, float[batch,512] x) { h = MatMul(x, W1) }"
    )
    model = fp16(graph(text))
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    x = np.ones((2, 512), np.float32)
    assert np.array_equal(session.run(None, {"x": x})[1], x)


def test_a_graph_whose_values_are_named_after_operators_is_checked(
    fp16: Callable[..., Model],
) -> None:
    model = graph(
        "g (float[batch,512] x) => (float[batch,512] y) { h = MatMul(x, W1) a = Abs(h) y = Neg(a) }"
    )
    model.graph.node[1].output[0] = model.graph.node[2].input[0] = "h/Abs"
    made = fp16(model).conversion
    assert made.rounded_sqnr_db is not None
    assert made.notes == ()


def test_subgraphs_are_converted_and_exchange_fp32(fp16: Callable[..., Model]) -> None:
    text = """
    g (float[batch,8] x) => (float[batch,8] y) {
      h = Mul(x, gamma)
      m = ReduceMax <keepdims = 0> (h)
      c = Greater(m, zero)
      y = If (c) <
        then_branch = a () => (float[batch,8] t) { q = Exp(h) t = Mul(q, gamma) },
        else_branch = b () => (float[batch,8] e) { q = Abs(h) e = Neg(q) }>
    }"""
    model = fp16(graph(text, zero=0.0))
    made = onnx.load(model.path)
    assert kinds(made)["Cast"] == 3  # of x, and of each branch's result
    onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    assert model.conversion.rounded_sqnr_db is not None
    assert model.conversion.rounded_sqnr_db > 50


def test_inputs_that_an_operator_takes_in_fp32_only_stay(fp16: Callable[..., Model]) -> None:
    text = """
    g (float[batch,2,8,8] x) => (float[batch,2,16,16] y) {
      h = Mul(x, gamma)
      y = Resize <mode = "nearest"> (h, , scales)
    }"""
    model = fp16(graph(text, scales=np.array([1, 1, 2, 2], np.float32)))
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(model.path).graph.initializer}
    assert kinds["scales"] == onnx.TensorProto.FLOAT
    onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])


def test_rounding_keeps_what_is_finite_finite_and_what_is_not_zero_not_zero() -> None:
    values = np.array([1e9, -1e9, 1e-9, -1e-9, 0, np.inf, 1 + 2.0**-12], np.float32)
    least = 2.0**-24
    assert to_half(values).tolist() == [65504, -65504, least, -least, 0, np.inf, 1]


def test_small_probabilities_survive_in_a_last_softmax(fp16: Callable[..., Model]) -> None:
    text = """
    g (float[batch,512] x) => (float[batch,512] y) {
      h = MatMul(x, W1)
      y = Softmax <axis = -1> (h)
    }"""
    model = fp16(graph(text, W1=np.random.default_rng(3).standard_normal((512, 512)) / 8))
    assert model.conversion.kept_fp32_ops == ("Softmax",)
    assert kinds(onnx.load(model.path))["Cast"] == 2
    assert model.conversion.rounded_sqnr_db is not None
    assert model.conversion.rounded_sqnr_db > 50


def test_a_last_sigmoid_is_fp32_also_behind_a_reshape(fp16: Callable[..., Model]) -> None:
    text = """
    g (float[batch,8] x) => (float[batch,2,4] y) {
      far = Mul(x, hundred)
      p = Sigmoid(far)
      y = Reshape(p, shape)
    }"""
    made = fp16(graph(text, shape=np.array([-1, 2, 4]))).conversion
    assert made.kept_fp32_ops == ("Sigmoid", "Reshape")


def test_what_loses_most_goes_to_fp32_where_the_result_is_poor(fp16: Callable[..., Model]) -> None:
    text = """
    g (float[batch,8] x) => (float[batch,8] y) {
      a = Mul(x, half)
      far = Add(a, large)
      back = Sub(far, large)
      y = Mul(back, hundred)
    }"""
    made = fp16(graph(text, half=0.5, large=2000.0)).conversion
    assert "Add" in made.kept_fp32_ops
    assert made.rounded_sqnr_db is not None
    assert made.rounded_sqnr_db > 50
    assert made.notes == ()


def test_where_much_is_lost_in_many_small_steps_only_the_products_are_half(
    fp16: Callable[..., Model],
) -> None:
    saturated = """
    g (float[batch,64] x) => (float[batch,64] y) {
      h = MatMul(x, W)
      far = Mul(h, four)
      p = Sigmoid(far)
      q = Sub(one, p)
      l = Log(q)
      c = Max(l, least)
      y = MatMul(c, V)
    }"""
    rng = np.random.default_rng(5)
    weights = {name: rng.standard_normal((64, 64)) / 4 for name in ("W", "V")}
    made = fp16(graph(saturated, four=4.0, one=1.0, least=-30.0, **weights))
    assert made.conversion.rounded_sqnr_db > 40
    assert made.conversion.notes == ()
    assert "MatMul:float16" in (made.reduced_ops or ())


def test_a_network_that_does_not_suit_half_precision_says_so(fp16: Callable[..., Model]) -> None:
    text = """
    g (float[batch,512] x) => (float[batch,512] y) {
      h = MatMul(x, W1)
      far = Mul(h, hundred)
      y = Sin(far)
    }"""
    made = fp16(graph(text)).conversion
    assert made.rounded_sqnr_db is not None
    assert made.rounded_sqnr_db < 20
    assert "does not suit fp16" in made.notes[0]


def test_a_graph_that_runs_with_one_item_only_is_checked_with_one(
    fp16: Callable[..., Model],
) -> None:
    text = """
    g (float[batch,8] x) => (float[batch,8] y) {
      h = Reshape(x, shape)
      s = Mul(h, hundred)
      y = Reshape(s, back)
    }"""
    made = fp16(graph(text, shape=np.array([8]), back=np.array([1, 8]))).conversion
    assert made.rounded_sqnr_db is not None
    assert made.rounded_sqnr_db > 60


def test_positions_that_follow_from_shapes_stay_exact(fp16: Callable[..., Model]) -> None:
    text = """
    g (float[batch,1,2,8] x) => (float[batch,1,2,8] y) {
      s = Shape(x)
      n = Gather(s, last)
      f = Cast <to = 1> (n)
      r = Range(zero, f, one)
      h = Mul(x, hundred)
      y = Add(h, r)
    }"""
    model = fp16(graph(text, last=np.array(3), zero=np.float32(0), one=np.float32(1)))
    made = onnx.load(model.path)
    assert kinds(made)["Cast"] == 4  # of x, of the sizes as before, of the positions, of y
    assert model.conversion.kept_fp32_ops == ()


def test_sines_of_large_arguments_and_what_computes_these_stay_in_fp32(
    fp16: Callable[..., Model],
) -> None:
    embedding = """
    g (float[batch,1] t) => (float[batch,64] y) {
      steps = Mul(t, thousand)
      angle = Mul(steps, freq)
      s = Sin(angle)
      y = MatMul(s, W)
    }"""
    rng = np.random.default_rng(3)
    weights = {"thousand": 1000.0, "freq": np.exp(-np.arange(64) / 8)[None]}
    made = fp16(graph(embedding, W=rng.standard_normal((64, 64)) / 8, **weights))
    assert set(made.conversion.kept_fp32_ops) == {"Mul", "Sin"}
    assert made.conversion.rounded_sqnr_db > 50
    small = fp16(graph(embedding, W=rng.standard_normal((64, 64)) / 8, thousand=1.0, freq=[[1.0]]))
    assert small.conversion.kept_fp32_ops == ()


def test_random_numbers_are_no_reason_against_half_precision(fp16: Callable[..., Model]) -> None:
    noisy = """
    g (float[batch,8] x) => (float[batch,8] y) {
      h = MatMul(x, W)
      r = RandomNormalLike(h)
      y = Add(h, r)
    }"""
    made = fp16(graph(noisy, W=np.eye(8)))
    assert made.reduced_ops is not None
    assert "MatMul:float16" in made.reduced_ops
    assert made.conversion.rounded_sqnr_db is None
    (note,) = made.conversion.notes
    assert "drawn at random" in note


def test_a_value_is_not_cast_for_its_shape(fp16: Callable[..., Model]) -> None:
    text = """
    g (float[batch,8] x) => (float[batch,8] y) {
      h = Mul(x, gamma)
      s = Shape(h)
      flat = Reshape(h, one)
      y = Reshape(flat, s)
    }"""
    model = fp16(graph(text, one=np.array([-1])))
    assert kinds(onnx.load(model.path))["Cast"] == 2


def test_a_small_weight_that_is_only_added_keeps_nothing_in_fp32(
    fp16: Callable[..., Model],
) -> None:
    text = """
    g (float[batch,512] x) => (float[batch,512] y) {
      h = MatMul(x, W1)
      y = Add(h, small)
    }"""
    assert fp16(graph(text, small=np.full(512, 1e-7))).conversion.kept_fp32_ops == ()


def test_an_output_that_half_precision_resizes_is_named(fp16: Callable[..., Model]) -> None:
    text = """
    g (float[batch,512] x) => (int64[2,found] y) {
      h = MatMul(x, W1)
      far = Mul(h, hundred)
      s = Sin(far)
      b = Greater(s, zero)
      y = NonZero(b)
    }"""
    made = fp16(graph(text, zero=0.0, hundred=300.0)).conversion
    assert made.rounded_sqnr_db is None
    assert made.notes == (
        "Half precision changes the size of output 'y', which depends on the values.",
    )


@pytest.mark.parametrize(
    "text",
    [
        """
        g (float[batch,8] x) => (float[batch,8] y) {
          h = Mul(x, gamma)
          y = Loop (trip, , h) <
            body = b (int64 i, bool c, float[batch,8] s) => (bool d, float[batch,8] t) {
              d = Identity(c) q = Mul(s, gamma) t = Add(q, h) }>
        }""",
        """
        g (float[batch,8] x) => (float[batch,8] y) {
          s = SequenceConstruct(x, x)
          e = SequenceAt(s, first)
          y = Mul(e, gamma)
        }""",
    ],
    ids=["loop", "sequence"],
)
def test_where_types_are_not_known_or_fixed_the_graph_stays_valid(
    text: str, fp16: Callable[..., Model]
) -> None:
    made = fp16(graph(text, trip=np.array(3), first=np.array(0)))
    onnxruntime.InferenceSession(str(made.path), providers=["CPUExecutionProvider"])
    assert made.conversion.rounded_sqnr_db is not None
    assert made.conversion.rounded_sqnr_db > 50


def test_operators_of_onnx_runtime_are_fp32_and_what_follows_is_half(
    fp16: Callable[..., Model],
) -> None:
    text = """
    g (float[batch,512] x) => (float[batch,512] y) {
      h = MatMul(x, W1)
      a = com.microsoft.Gelu(h)
      b = MatMul(a, W2)
      y = Relu(b)
    }"""
    model = graph(text)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    made = fp16(model)
    onnxruntime.InferenceSession(str(made.path), providers=["CPUExecutionProvider"])
    assert {tensor.data_type for tensor in onnx.load(made.path).graph.initializer} == {
        onnx.TensorProto.FLOAT16
    }
    assert made.conversion.rounded_sqnr_db is not None
    assert made.conversion.rounded_sqnr_db > 50


def test_without_the_memory_for_it_there_is_no_check_but_a_note(
    fp16: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raybench.machine.sysfs.available_bytes", lambda meminfo: 1)
    made = fp16(graph(RMS)).conversion
    assert made.rounded_sqnr_db is None
    assert "GiB of memory" in made.notes[0]
    assert made.kept_fp32_ops == ("Mul", "ReduceSum", "Sqrt", "Div")  # known without a run

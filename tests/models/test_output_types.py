"""An output that is no tensor of numbers is `unsupported` before an engine sees the graph."""

from __future__ import annotations

import onnx
import pytest
from helpers.tiny_graphs import graph_of
from onnx import TensorProto
from onnx.helper import make_node, make_tensor_sequence_value_info

from raybench.errors import ModelError, Unsupported
from raybench.experiment import ModelSettings
from raybench.models.prepare import prepare
from raybench.models.source import check

FLOAT = TensorProto.FLOAT
X = ("x", FLOAT, ["batch", 4])


def undeclared(model):
    for value in model.graph.output:
        value.ClearField("type")
    return model


def of_strings():
    nodes = [make_node("Cast", ["x"], ["y"], to=TensorProto.STRING)]
    return graph_of(nodes, [X], [("y", TensorProto.STRING, ["batch", 4])])


def of_a_sequence():
    model = graph_of([make_node("SplitToSequence", ["x"], ["y"], axis=1)], [X], [])
    model.graph.output.append(make_tensor_sequence_value_info("y", FLOAT, None))
    return model


def optional():
    model = graph_of([make_node("Optional", ["x"], ["y"])], [X], [])
    model.graph.output.append(onnx.ValueInfoProto(name="y"))
    kind = model.graph.output[0].type.optional_type.elem_type.tensor_type
    kind.elem_type = FLOAT
    return model


def of_maps():
    nodes = [
        make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[1, 2, 3, 4])
    ]
    model = graph_of(nodes, [X], [])
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 3))
    value = onnx.ValueInfoProto(name="y")
    each = value.type.sequence_type.elem_type.map_type
    each.key_type = TensorProto.INT64
    each.value_type.tensor_type.elem_type = FLOAT
    model.graph.output.append(value)
    return model


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (of_strings(), "a tensor of strings"),
        (undeclared(of_strings()), "a tensor of strings"),
        (of_a_sequence(), "a sequence"),
        (undeclared(of_a_sequence()), "a sequence"),
        (optional(), "optional"),
        (of_maps(), "a sequence"),
    ],
)
def test_an_output_without_numbers_is_unsupported(model, kind, precision, saved, tmp_path):
    path = saved(model)
    with pytest.raises(Unsupported, match=f"Output 'y' of '{path}' is {kind}"):
        prepare(path, ModelSettings(), precision, "u8s8", tmp_path / "cache")


def test_outputs_of_numbers_are_taken_whether_their_type_is_declared_or_not(saved, tmp_path):
    nodes = [make_node("ArgMax", ["x"], ["y"], axis=1), make_node("Relu", ["x"], ["z"])]
    model = graph_of(nodes, [X], [("y", TensorProto.INT64, None), ("z", FLOAT, None)])
    for each in (model, undeclared(model)):
        prepare(saved(each), ModelSettings(), "fp32", None, tmp_path / "cache")


def test_a_file_that_no_precision_takes_is_refused_without_advice_that_fails(saved):
    with pytest.raises(ModelError) as caught:
        check(saved(of_a_sequence()), ModelSettings(), ["as_is"])
    assert "is a sequence" in str(caught.value)
    assert "precision=fp32" not in str(caught.value)

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.tiny_graphs import graph_of, tiny_bert
from onnx import TensorProto, helper

from raybench.errors import ModelError
from raybench.experiment import ModelSettings
from raybench.models.model import TensorSpec
from raybench.models.prepare import prepare
from raybench.models.shapes.input_values import given_items
from raybench.models.source import check, identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Saved = Callable[..., str]

SPECS = (
    TensorSpec("image", "float32", ("N", 2, 3)),
    TensorSpec("state", "float32", (2, "N", 3)),
    TensorSpec("rate", "int64", ()),
    TensorSpec("small", "uint8", ("N", 2)),
    TensorSpec("flag", "bool", ()),
)


def test_a_number_fills_the_input_and_a_list_is_one_item() -> None:
    rows = [[1, 2.5, 3], [4, 5, 6]]
    given = given_items("m", SPECS, {"image": rows, "state": rows, "rate": 16000, "flag": True})
    assert {name: (items.shape, items.dtype.name) for name, items in given.items()} == {
        "image": ((1, 2, 3), "float32"),
        "state": ((1, 2, 3), "float32"),
        "rate": ((1,), "int64"),
        "flag": ((1,), "bool"),
    }
    assert given["image"][0].tolist() == rows
    assert np.array_equal(given_items("m", SPECS, {"image": 0.5})["image"], np.full((1, 2, 3), 0.5))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rat", 3, "Did you mean 'rate'?"),
        ("rate", 1.5, "is no value for an input of type int64. It takes whole numbers"),
        ("rate", "16k", "is no value for an input of type int64"),
        ("rate", None, "is no value"),
        ("rate", [1, 2], "has shape [2], and the input has []. Set model.values.rate=..."),
        ("small", 256, "does not fit into uint8"),
        ("small", [-1, 0], "does not fit into uint8"),
        ("image", [[1, 2, 3]], "has shape [1, 3], and one item of the input has [2, 3]"),
        ("image", [[1, 2], [3]], "is no value"),
        ("image", float("nan"), "does not fit into float32"),
        ("image", 1e39, "does not fit into float32"),
        ("image", True, "It takes numbers"),
        ("flag", 3, "It takes true or false"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        given_items("m", SPECS, {name: value})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_outside_the_table_or_the_range_are_refused(saved: Saved) -> None:
    path = saved(tiny_bert())

    def refused(**settings: object) -> str:
        with pytest.raises(ModelError) as caught:
            check(path, ModelSettings(shapes={"sequence": 4}, **settings))
        return str(caught.value)

    assert "Stay within 0..49" in refused(values={"ids": 50})
    ranges = {"mask": [0, 1]}
    assert "Leave that range out" in refused(values={"mask": 2}, ranges=ranges)
    check(path, ModelSettings(shapes={"sequence": 4}, values={"ids": [1, 2, 3, 49], "mask": 1}))


def test_values_are_no_part_of_the_graph_but_of_what_calibrates_it(
    saved: Saved, cache: Path
) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    shapes = [("x", TensorProto.FLOAT, ["N", 4])], [("y", TensorProto.FLOAT, ["N", 3])]
    path = saved(graph_of([node], *shapes, {"w": np.ones((4, 3), np.float32)}))
    plain, given = ModelSettings(), ModelSettings(values={"x": 0.25})
    assert identity(path, plain) == identity(path, given)
    one, other = (prepare(path, settings, "fp32", None, cache) for settings in (plain, given))
    assert one.path == other.path
    ranged, narrow = (prepare(path, settings, "int8", "u8s8", cache) for settings in (plain, given))
    assert ranged.sha256 != narrow.sha256

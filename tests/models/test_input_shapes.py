from __future__ import annotations

from typing import Any

import pytest

from raybench.errors import ModelError
from raybench.models.shapes.input_shapes import close_shapes
from raybench.models.shapes.shape_request import OpenInput

Dims = tuple[Any, ...]


def closed(
    given: dict[str, Any], *shapes: Dims | None
) -> tuple[list[tuple[int | str, ...]], int | None]:
    """Return the shapes of the inputs a, b ... and the batch that the file is fixed to."""
    inputs = [OpenInput("abc"[i], "float32", dims) for i, dims in enumerate(shapes)]
    result = close_shapes("m", inputs, given)
    return [spec.shape for spec in result.inputs], result.fixed


@pytest.mark.parametrize(
    ("given", "shapes", "expected"),
    [
        ({}, [("batch", 3)], [("N", 3)]),
        ({}, [(None, 3)], [("N", 3)]),
        ({}, [("s0", 3), (2, "s0", 8)], [("N", 3), (2, "N", 8)]),
        ({}, [("s0", 3), ("s1", 8)], [("N", 3), ("N", 8)]),
        ({}, [(7, "batch", 4)], [(7, "N", 4)]),
        ({"T": 5}, [("T", "N", 4)], [(5, "N", 4)]),
        ({"past": 0}, [("batch", 4), ("batch", "past", 4)], [("N", 4), ("N", 0, 4)]),
        ({"b": ["N", 0]}, [("batch", 4), ("batch", None)], [("N", 4), ("N", 0)]),
        ({}, [(2, "batch_size", 128), ("batch_size", 8)], [(2, "N", 128), ("N", 8)]),
        ({"seq": 6}, [("seq", "batch", 4), ("batch", "seq")], [(6, "N", 4), ("N", 6)]),
        ({}, [("image_batch", 3), ("text_batch", 8)], [("N", 3), ("N", 8)]),
        ({"N": 9}, [("batch", "N", 3)], [("N", 9, 3)]),
        ({"n": 4}, [("n", "b", 3)], [(4, "N", 3)]),
        ({"N": 9}, [(None, 3, "N")], [("N", 3, 9)]),
        ({}, [("batch", 4), ()], [("N", 4), ()]),
        ({"a": ["N", 4]}, [("time", 4), (1, 4)], [("N", 4), (1, 4)]),
        ({}, [("batch", 4), (1, 4), (3,)], [("N", 4), (1, 4), (3,)]),
        ({"boxes": 10}, [("batch", 3), ("boxes", 4)], [("N", 3), (10, 4)]),
        ({"b": ["N", 4]}, [("batch", 3), ("boxes", 4)], [("N", 3), ("N", 4)]),
        ({"b": [10, 4]}, [("batch", 3), ("boxes", 4)], [("N", 3), (10, 4)]),
        ({"a": [7, "N", 4]}, [("s0", "s1", 4)], [(7, "N", 4)]),
        ({"a": [7, -1, 4]}, [("s0", "s1", 4), ("s1", 2)], [(7, "N", 4), ("N", 2)]),
        ({"a": ["N", 3, 8, 9]}, [(None, 3, "?", "?")], [("N", 3, 8, 9)]),
        ({"p.d.1": 8, "p.d.2": 9}, [("p.d.0", "p.d.1", "p.d.2")], [("N", 8, 9)]),
        ({"a": ["N", 5]}, [None], [("N", 5)]),
    ],
)
def test_the_batch_is_found_wherever_it_stands(
    given: dict[str, Any], shapes: list[Dims | None], expected: list[Dims]
) -> None:
    assert closed(given, *shapes) == (expected, None)


@pytest.mark.parametrize(
    ("given", "shapes", "expected", "fixed"),
    [
        ({}, [(4, 3)], [("N", 3)], 4),
        ({}, [(1, 3), (1, 8)], [("N", 3), ("N", 8)], 1),
        ({}, [(1, 16), (2, 1, 8)], [(1, 16), (2, 1, 8)], 1),
        ({}, [(1, 16), ()], [("N", 16), ()], 1),
        ({}, [()], [()], 1),
        ({"len": 9}, [(1, "len", 80)], [("N", 9, 80)], 1),
        ({"time": 9}, [("time", 4), (1, 4)], [(9, 4), (1, 4)], 1),
        ({"a": ["N", 16], "b": [2, "N", 8]}, [(4, 16), (2, 4, 8)], [("N", 16), (2, "N", 8)], 4),
        ({"a": [4, 16], "b": [2, 4, 8]}, [(4, 16), (2, 4, 8)], [(4, 16), (2, 4, 8)], 1),
        ({"a": ["N", 16], "b": [4, 8]}, [(4, 16), (4, 8)], [("N", 16), (4, 8)], 4),
    ],
)
def test_a_file_without_an_open_batch_is_fixed_to_one(
    given: dict[str, Any], shapes: list[Dims], expected: list[Dims], fixed: int
) -> None:
    assert closed(given, *shapes) == (expected, fixed)


@pytest.mark.parametrize(
    ("given", "shapes", "message"),
    [
        ({"a": ["N", "N"]}, [("s0", "s1")], "Write N where the batch stands, once"),
        ({"a": 3}, [("s0", 4)], "Set every dimension: 'model.shapes.a=[N, 4]'"),
        ({"batch": 3}, [(7, "batch", 4)], "Use batch_size=3"),
        (
            {"a": ["N", 16], "b": ["N", 8]},
            [(4, 16), (2, 8)],
            "stands for 4 in input 'a' of 'm' and for 2",
        ),
        ({"?": 8}, [(None, "?", "?")], "names no dynamic dimension"),
    ],
)
def test_what_contradicts_the_file_is_refused(
    given: dict[str, Any], shapes: list[Dims], message: str
) -> None:
    with pytest.raises(ModelError) as caught:
        closed(given, *shapes)
    assert message in str(caught.value)

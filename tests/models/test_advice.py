"""Every advice on inputs is followed: what a message says to set is set, and the model is taken."""

from __future__ import annotations

import re
import shlex
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from helpers.tiny_graphs import graph_of, tiny_bert, tiny_conv
from onnx import TensorProto, helper

from raybench.config.compose import read
from raybench.config.layers import read_overrides
from raybench.errors import ModelError
from raybench.models.shapes.input_shapes import close_shapes
from raybench.models.shapes.shape_request import OpenInput
from raybench.models.source import check
from raybench.planning.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    Saved = Callable[..., str]

_WORD = re.compile(r"'model\.[^']*'|model\.[a-z]+\.[^ ]*=(?:\[[^]]*\]|[^ ,;]*[^ ,;.]|\.\.\.)")


def words_of(message: str) -> list[str]:
    """Return the settings that a message advises, as a shell would hand them over."""
    advice = message[message.rfind("Set ") if "Set " in message else message.rfind(". ") :]
    return [shlex.split(word)[0] for word in _WORD.findall(advice)]


def checked(path: str, words: list[str]) -> None:
    """Check a model with settings from the command line."""
    draft = read([f"model={path}", "engine=simulated", *words])
    check(path, draft.resolve({"cpu": 2}).experiment.model)


def saved_inputs(saved: Saved, inputs: list[tuple[str, list[Any] | None, str]]) -> str:
    values = [(name, getattr(TensorProto, kind), dims) for name, dims, kind in inputs]
    nodes = [helper.make_node("Identity", [name], [f"same {name}"]) for name, _, _ in values]
    return saved(
        graph_of(nodes, values, [(f"same {name}", kind, None) for name, kind, _ in values])
    )


ONE_ADVICE = {
    "a symbol": [("x", ["batch", "sequence"], "INT64")],
    "two symbols": [("x", ["batch", 3, "h", "w"], "FLOAT")],
    "no symbols": [("x", [None, 3, None, None], "FLOAT")],
    "question marks": [("x", [None, 3, "?", "?"], "FLOAT")],
    "an expression": [("x", ["batch", "h // 2"], "FLOAT")],
    "dots": [("x", ["d.0", 3, "d.1", "d.2"], "FLOAT")],
    "dots and colons in an input": [("a.b/x:0", ["batch", None], "FLOAT")],
    "spaces in an input": [("my input", ["batch", None], "FLOAT")],
    "no rank": [("x", None, "FLOAT")],
    "the batch twice": [("x", ["batch", "batch"], "FLOAT")],
    "the batch second, no symbols": [("x", [7, "batch", None], "FLOAT")],
    "states": [("x", ["batch", 8], "FLOAT"), ("h", [2, "batch", "hidden"], "FLOAT")],
    "a scalar": [("x", ["batch", 8], "FLOAT"), ("rate", [], "INT64")],
    "a switch": [("x", ["batch", 8], "FLOAT"), ("training", [], "BOOL")],
    "two sizes": [("x", ["batch", 8], "FLOAT"), ("size", [2], "INT64")],
    "a dotted scalar": [("x", ["batch", 8], "FLOAT"), ("sr.in hz", [1], "INT32")],
    "numbers that differ": [("x", [4, 16], "FLOAT"), ("state", [2, 4, 8], "FLOAT")],
    "numbers with nothing in common": [("x", [4, 16], "FLOAT"), ("state", [3, 5], "FLOAT")],
}


@pytest.mark.parametrize("inputs", ONE_ADVICE.values(), ids=ONE_ADVICE)
def test_what_is_missing_works_when_it_is_set_as_advised(
    saved: Saved, inputs: list[tuple[str, list[Any] | None, str]]
) -> None:
    path = saved_inputs(saved, inputs)
    with pytest.raises(ModelError) as caught:
        checked(path, [])
    words = words_of(str(caught.value))
    assert words
    checked(path, [word.replace("...", "4") for word in words])


TWO_WAYS = {
    "a size or the batch": ([("x", ["batch", 8], "FLOAT"), ("boxes", ["k", 4], "FLOAT")], []),
    "a length first": ([("x", ["seq_len", 8], "FLOAT"), ("h", [1, 1, 8], "FLOAT")], []),
    "another input with that number": (
        [("x", [4, 8], "FLOAT"), ("scale", [4, 2], "FLOAT")],
        ["model.shapes.x=[N, 8]"],
    ),
}


@pytest.mark.parametrize(("inputs", "first"), TWO_WAYS.values(), ids=TWO_WAYS)
def test_either_of_two_ways_works(
    saved: Saved, inputs: list[tuple[str, list[Any] | None, str]], first: list[str]
) -> None:
    path = saved_inputs(saved, inputs)
    with pytest.raises(ModelError) as caught:
        checked(path, first)
    words = words_of(str(caught.value))
    assert len(words) == 2
    for word in words:
        checked(path, [*first, word.replace("...", "4")])


FLAWED = {
    "a number for the batch": "model.shapes.x=[4, 16]",
    "a size for an input": "model.shapes.x=16",
    "half a range": "model.ranges.x=[0]",
    "a number for a scalar": "model.values.rate=[1, 2]",
    "a fraction": "model.values.rate=1.5",
}


@pytest.mark.parametrize("word", FLAWED.values(), ids=FLAWED)
def test_what_is_wrong_works_when_it_is_corrected_as_advised(saved: Saved, word: str) -> None:
    path = saved_inputs(saved, [("x", ["n", 16], "INT64"), ("rate", [], "INT64")])
    rate = [] if "rate" in word else ["model.values.rate=16000"]
    with pytest.raises(ModelError) as caught:
        checked(path, [word, *rate])
    (advice,) = words_of(str(caught.value))
    checked(path, [advice.replace("...", "4"), *rate])


_DIMS = (
    1,
    1,
    2,
    3,
    4,
    "batch",
    "batch_size",
    "N",
    "n",
    "s0",
    "s1",
    "?",
    "seq",
    "h // 2",
    None,
    "d.1",
)


def test_advice_on_any_shapes_ends_after_a_few_words() -> None:
    for seed in range(200):
        random = Random(seed)
        inputs = [
            OpenInput(
                name, "float32", tuple(random.choice(_DIMS) for _ in range(random.randint(0, 4)))
            )
            for name in "abc"[: random.randint(1, 3)]
        ]
        words: list[str] = []
        closed = None
        for _ in range(6):
            given = read_overrides(["model=m", *words])[0].rest.get("model", {}).get("shapes", {})
            try:
                closed = close_shapes("m", inputs, given)
                break
            except ModelError as error:
                advised = words_of(str(error))
                if " if it is" in str(error) or " if that is" in str(error):
                    advised = [random.choice(advised)]
                words += [word.replace("...", str(random.randint(2, 9))) for word in advised]
        assert closed is not None, (inputs, words)
        assert all(len(spec.with_batch(3)) == len(spec.shape) for spec in closed.inputs)


REPLACED = {
    "the batch as a size": ("model.shapes.batch=3", r"Use (batch_size=3)", "{}"),
    "an input misspelt": ("model.shapes.idz=[N, 8]", r"mean '(\w+)'", "model.shapes.{}=[N, 8]"),
    "a range misspelt": ("model.ranges.idz=[0, 9]", r"mean '(\w+)'", "model.ranges.{}=[0, 9]"),
    "a value misspelt": ("model.values.idz=9", r"mean '(\w+)'", "model.values.{}=9"),
    "a range beyond its table": (
        "model.ranges.ids=[0, 50]",
        r"0..(49)",
        "model.ranges.ids=[0, {}]",
    ),
    "a value beyond its table": ("model.values.ids=50", r"0..(49)", "model.values.ids={}"),
}


@pytest.mark.parametrize(("word", "advice", "form"), REPLACED.values(), ids=REPLACED)
def test_a_word_that_is_replaced_as_advised_is_taken(
    saved: Saved, word: str, advice: str, form: str
) -> None:
    path, sequence = saved(tiny_bert()), "model.shapes.sequence=8"
    with pytest.raises(ModelError) as caught:
        checked(path, [sequence, word])
    found = re.search(advice, str(caught.value))
    assert found is not None
    checked(path, [sequence, form.format(found[1])])


@pytest.mark.parametrize("word", [[], ["model.shapes.data=[N, 3, 8, 8]"]])
def test_the_batch_that_a_file_is_fixed_to_is_taken_when_it_is_advised(
    saved: Saved, word: list[str]
) -> None:
    path = saved(tiny_conv(4, (4, 72)))

    def plan(batch_size: str) -> None:
        words = [f"model={path}", "engine=onnxruntime", batch_size, *word]
        make_plan(read(words).resolve({"cpu": 2}).experiment, {"cpu": 2}, "node", "")

    with pytest.raises(ModelError) as caught:
        plan("batch_size=8")
    found = re.search(r"Use (batch_size=\d+)", str(caught.value))
    assert found is not None
    plan(found[1])

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.tiny_graphs import graph_of, tiny_bert, tiny_conv
from onnx import TensorProto, helper

from raybench.errors import ModelError
from raybench.experiment import ModelSettings
from raybench.models import source
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare
from raybench.models.recipe import Recipe
from raybench.models.source import check, identity

if TYPE_CHECKING:
    from collections.abc import Callable

    Saved = Callable[..., str]

FLOAT = TensorProto.FLOAT
SEQUENCE = ModelSettings(shapes={"sequence": 16})


def refusal(name: str, **settings: object) -> str:
    with pytest.raises(ModelError) as caught:
        check(name, ModelSettings(**settings))
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "..."))
    return text


def test_zoo_names_are_checked_without_building_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Recipe.model

    def refuse(recipe: Recipe, seed: int | None) -> onnx.ModelProto:
        if seed is not None:
            raise AssertionError("A graph was built.")
        return whole(recipe, seed)  # without weights, to count

    monkeypatch.setattr(Recipe, "model", refuse)
    check("alexnet", ModelSettings())


def test_the_identity_of_a_zoo_model_names_recipe_and_seed() -> None:
    assert identity("alexnet", ModelSettings(seed=3)) == "zoo:alexnet@1/seed=3"


def test_the_graph_of_a_cached_file_is_not_walked_again(
    saved: Saved, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("The graph was walked.")

    path = saved(tiny_conv())
    made = prepare(path, ModelSettings(), "fp32", None, cache)
    source._files.cache_clear()  # as in the process of another worker
    monkeypatch.setattr(source.OnnxFile, "open", refuse)
    assert prepare(path, ModelSettings(), "fp32", None, cache) == made


def test_an_unknown_name_is_offered_the_nearest() -> None:
    assert "Did you mean 'resnet50'?" in refusal("resnet5")
    assert "negative" not in refusal("alexnet", seed=-1)
    assert "Leave it out" in refusal("alexnet", shapes={"sequence": 3})


def test_two_integer_inputs_of_dynamic_length_run_within_their_table(
    saved: Saved, cache: Path
) -> None:
    path = saved(tiny_bert())
    model = prepare(path, SEQUENCE, "fp32", None, cache)
    assert [(spec.name, spec.dtype, spec.shape) for spec in model.inputs] == [
        ("ids", "int64", ("N", 16)),
        ("mask", "int64", ("N", 16)),
    ]
    assert [(spec.name, spec.shape) for spec in model.outputs] == [("probabilities", ("N", 4))]
    assert model.ranges == {"ids": (0, 49), "mask": (0, 1)}
    assert model.softmax_outputs == {"probabilities"}
    assert (model.parameters, model.macs_per_item) == (50 * 8 + 32, 32)
    batch = BatchPool(model.inputs, 3, 0, model.ranges, min_bytes=1).batch(2)
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    assert session.run(None, batch)[0].shape == (3, 4)


def test_a_size_that_cannot_be_guessed_is_asked_for_by_name(saved: Saved) -> None:
    assert "Set model.shapes.sequence=..." in refusal(saved(tiny_bert()))
    unnamed = saved(tiny_bert(sequence=None))
    assert "'model.shapes.ids=[N, ...]' and 'model.shapes.mask=[N, ...]'" in refusal(unnamed)
    check(unnamed, ModelSettings(shapes={"ids": ["N", 8], "mask": ["N", 8]}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shapes": {"sequense": 16}}, "Did you mean 'sequence'?"),
        ({"shapes": {"sequence": 0}}, "Every input of"),
        ({"shapes": {"sequence": -1}}, "not a size"),
        ({"shapes": {"sequence": "long"}}, "not a size"),
        ({"shapes": {"batch": 4}}, "Use batch_size=4"),
        ({"shapes": {"idz": ["N", 16]}}, "Did you mean 'ids'?"),
        ({"shapes": {"ids": [4, 16]}}, "Set 'model.shapes.ids=[N, 16]'"),
        ({"shapes": {"ids": ["N", 16, 3]}}, "contradicts"),
        ({"shapes": {"sequence": 16}, "ranges": {"idz": [0, 1]}}, "Did you mean 'ids'?"),
        ({"shapes": {"sequence": 16}, "ranges": {"ids": [0, 50]}}, "Stay within 0..49"),
        ({"shapes": {"sequence": 16}, "ranges": {"ids": [3]}}, "not a range"),
        ({"shapes": {"sequence": 16}, "ranges": {"mask": [1, 0]}}, "lowest value first"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    saved: Saved, settings: dict[str, object], message: str
) -> None:
    assert message in refusal(saved(tiny_bert()), **settings)


def test_a_range_of_the_user_counts(saved: Saved, cache: Path) -> None:
    settings = ModelSettings(shapes={"sequence": 16}, ranges={"mask": [1, 1]})
    model = prepare(saved(tiny_bert()), settings, "fp32", None, cache)
    assert model.ranges["mask"] == (1, 1)


def test_a_fixed_batch_is_opened_where_the_graph_allows_it(saved: Saved, cache: Path) -> None:
    model = prepare(saved(tiny_conv(1)), ModelSettings(), "fp32", None, cache)
    assert model.inputs[0].shape == ("N", 3, 8, 8)
    assert model.file_batch is not None
    assert model.file_batch.note(5) == "batch_opened: the file is fixed to batch 1"
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    assert session.run(None, {"data": np.ones((5, 3, 8, 8), np.float32)})[0].shape == (5, 72)


@pytest.mark.parametrize("reshape", [(1, 72), (1, -1)])
def test_a_batch_fixed_inside_the_graph_runs_as_it_is_and_refuses_others(
    saved: Saved, cache: Path, reshape: tuple[int, ...]
) -> None:
    model = prepare(saved(tiny_conv(1, reshape)), ModelSettings(), "fp32", None, cache)
    assert model.inputs[0].shape == (1, 3, 8, 8)
    assert model.macs_per_item == 36 * 2 * 27
    assert model.file_batch is not None
    assert model.file_batch.refusal("m", 1) is None
    assert "Use batch_size=1. Export it with a dynamic batch" in str(
        model.file_batch.refusal("m", 2)
    )
    assert model.file_batch.note(1) is None


def test_the_macs_of_one_item_are_those_of_a_batch_that_is_fixed_divided(
    saved: Saved, cache: Path
) -> None:
    model = prepare(saved(tiny_conv(4, (4, 72))), ModelSettings(), "fp32", None, cache)
    assert model.inputs[0].shape == (4, 3, 8, 8)
    assert model.macs_per_item == 36 * 2 * 27


@pytest.mark.parametrize(
    ("shape", "reshape", "opens"),
    [
        ((4, 6), (-1, 2, 3), True),
        ((4, 6), (4, -1), False),
        ((4, 4), (4, -1), False),  # 4 items of 4 to 4 of 8: the second size is no batch
        ((4, 6), (-1, 3), True),  # two rows an item
        ((1, 6), (1, -1), False),
    ],
)
def test_only_a_graph_whose_outputs_follow_the_batch_is_opened(
    saved: Saved, shape: tuple[int, ...], reshape: tuple[int, ...], opens: bool
) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    weights = {"shape": np.array(reshape, np.int64)}
    graph = graph_of(nodes, [("x", FLOAT, shape)], [("y", FLOAT, None)], weights)
    file_batch = check(saved(graph), ModelSettings()).file_batch
    assert file_batch is not None
    assert (file_batch.size, file_batch.why is None) == (shape[0], opens)


def test_an_input_that_the_file_fixes_beside_a_batch_stays_as_it_is(
    saved: Saved, cache: Path
) -> None:
    nodes = [helper.make_node("Mul", ["x", "scale"], ["y"])]
    inputs = [("x", FLOAT, ["N", 4]), ("scale", FLOAT, [1, 4])]
    model = prepare(
        saved(graph_of(nodes, inputs, [("y", FLOAT, None)])), ModelSettings(), "fp32", None, cache
    )
    assert [spec.shape for spec in model.inputs] == [("N", 4), (1, 4)]
    assert model.file_batch is None


def test_files_that_are_no_model(tmp_path: Path, saved: Saved) -> None:
    assert "does not exist" in refusal(str(tmp_path / "none.onnx"))
    assert "is a folder" in refusal(str(tmp_path) + "/")
    text = tmp_path / "text.onnx"
    text.write_text("hello, this is no model")
    assert "is not an ONNX model" in refusal(str(text))
    text.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    assert "git lfs pull" in refusal(str(text))
    text.write_bytes(b"")
    assert "is not an ONNX model" in refusal(str(text))
    none = graph_of([], [("x", FLOAT, ["N"])], [("x", FLOAT, ["N"])])
    assert "no nodes in its graph" in refusal(saved(none))
    whole = Path(saved(tiny_conv()))
    whole.write_bytes(whole.read_bytes()[:-40])
    assert "cut off or damaged" in refusal(str(whole))


def test_external_weights_are_found_missed_and_measured(
    saved: Saved, tmp_path: Path, cache: Path
) -> None:
    path = saved(
        tiny_bert(),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="w.bin",
        size_threshold=0,
    )
    weights = tmp_path / "w.bin"
    before = identity(path, SEQUENCE)
    model = prepare(path, SEQUENCE, "fp32", None, cache)
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    ones = np.ones((2, 16), np.int64)
    assert session.run(None, {"ids": ones, "mask": ones})[0].shape == (2, 4)
    content = weights.read_bytes()
    weights.write_bytes(b"\0\0\0\0" + content[4:])
    assert identity(path, SEQUENCE) != before
    weights.write_bytes(content[:-4])
    assert "is cut off" in refusal(path, shapes={"sequence": 16})
    weights.unlink()
    assert "'w.bin', which is missing" in refusal(path, shapes={"sequence": 16})
    with pytest.raises(ModelError, match="missing"):
        identity(path, SEQUENCE)


def test_identity_follows_the_content_and_the_shapes_not_the_path(
    saved: Saved, tmp_path: Path
) -> None:
    path = saved(tiny_bert())
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(Path(path).read_bytes())
    assert identity(path, SEQUENCE) == identity(str(copy), SEQUENCE)
    assert identity(path, SEQUENCE) != identity(path, ModelSettings(shapes={"sequence": 8}))
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", identity(path, SEQUENCE))


def test_types_that_cannot_be_fed_or_would_be_mislabelled(saved: Saved) -> None:
    text = graph_of(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", TensorProto.STRING, ["N"])],
        [("y", TensorProto.STRING, ["N"])],
    )
    assert "is of type string" in refusal(saved(text))
    half = tiny_conv()
    half.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.ones((2, 3, 3, 3), np.float16), "w")
    )
    assert "is not an fp32 graph: node 'y' (Conv) computes in float16" in refusal(saved(half))
    quantised = tiny_conv()
    quantised.graph.node.append(helper.make_node("DequantizeLinear", ["a", "b"], ["c"]))
    assert "is not an fp32 graph: node 'c' (DequantizeLinear) rounds to int8" in refusal(
        saved(quantised)
    )


def test_weights_listed_among_the_inputs_are_not_fed(saved: Saved, cache: Path) -> None:
    old = tiny_conv()
    old.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 3, 3, 3]))
    model = prepare(saved(old), ModelSettings(), "fp32", None, cache)
    assert [spec.name for spec in model.inputs] == ["data"]


def test_a_graph_that_is_not_valid_is_said_in_a_sentence(saved: Saved) -> None:
    broken = tiny_bert()
    axis = helper.make_attribute("axis", 7)
    broken.graph.node[0].attribute.append(axis)
    assert "is not valid ONNX (IndexError" in refusal(saved(broken), shapes={"sequence": 16})


@pytest.mark.parametrize("dims", [[2], [1 << 40], [-1, 3, 3, 3]])
def test_a_constant_with_too_few_values_is_damaged(saved: Saved, dims: list[int]) -> None:
    broken = tiny_conv()
    broken.graph.initializer[0].dims[:] = dims
    assert "is damaged: its constant 'w' of shape" in refusal(saved(broken))


def test_a_graph_without_outputs_is_refused(saved: Saved) -> None:
    graph = tiny_conv()
    del graph.graph.output[:]
    assert "has no outputs" in refusal(saved(graph))

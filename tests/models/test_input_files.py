"""Real inputs: what is read from files, how it reaches a pool, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers.tiny_graphs import tiny_bert, tiny_conv
from PIL import Image

from raybench.errors import ModelError
from raybench.experiment import ModelSettings
from raybench.models import source
from raybench.models.items.batches import BatchPool, calibration_batches
from raybench.models.items.images import ImageLayout
from raybench.models.items.input_files import (
    files_digest,
    given_inputs,
    input_notes,
    inspect,
    open_inputs,
    sized,
)
from raybench.models.model import TensorSpec
from raybench.models.prepare import prepare

DATA = TensorSpec("data", "float32", ("N", 3, 2, 2))
TOKENS = (TensorSpec("ids", "int64", ("N", 4)), TensorSpec("mask", "int64", ("N", 4)))
LATE = (TensorSpec("x", "float32", (7, "N", 4)), TensorSpec("rate", "int64", ()))


def numbered(items, spec=DATA):
    """Items that hold their own number."""
    shape = (items, *spec.shape[1:])
    return np.broadcast_to(np.arange(items).reshape(-1, *[1] * (len(shape) - 1)), shape).astype(
        spec.dtype
    )


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def inspected(model, settings):
    return inspect(str(model), settings, source.check(str(model), settings))


@pytest.fixture
def five(tmp_path):
    """A file with five items of DATA."""
    return save(tmp_path / "five.npz", data=numbered(5), label=np.arange(5))


def pool_of(path, specs, batch_size=4, seed=0, min_bytes=1):
    return BatchPool(
        specs, batch_size, seed, {}, min_bytes, given=open_inputs(path, "m.onnx", specs)
    )


# --- what a pool gets -----------------------------------------------------------------------------


def test_items_are_shuffled_by_the_seed_and_repeated_to_fill_the_pool(five):
    pool = pool_of(five, (DATA,), batch_size=3, min_bytes=48 * 24)
    numbers = pool.stored("data")[:, 0, 0, 0]
    assert pool.items == len(numbers) == 24
    assert sorted(numbers[:5]) == [0, 1, 2, 3, 4]
    assert (numbers == np.resize(numbers[:5], 24)).all()
    orders = {
        tuple(pool_of(five, (DATA,), seed=seed).stored("data")[:5, 0, 0, 0]) for seed in range(9)
    }
    assert len(orders) > 1
    assert all(view.flags.c_contiguous for view in pool.batch(2).values())


def test_all_inputs_of_an_item_stay_together(tmp_path):
    ids = numbered(9, TOKENS[0])
    path = save(tmp_path / "t.npz", ids=ids, mask=ids + 100)
    batch = pool_of(path, TOKENS, batch_size=8).batch(1)
    assert (batch["mask"] == batch["ids"] + 100).all()
    assert len({*batch["ids"][:, 0]}) > 4


def test_a_pool_is_identified_by_the_files_and_the_seed(five, tmp_path):
    other = save(tmp_path / "other.npz", data=numbered(5) + 1)
    same = save(tmp_path / "same.npz", data=numbered(5), label=np.arange(5))
    keys = [pool_of(path, (DATA,)).key for path in (five, same, other)]
    assert keys[0] == keys[1] != keys[2]
    assert keys[0] != pool_of(five, (DATA,), seed=1).key
    assert files_digest(five) == files_digest(same) != files_digest(other)


def test_calibration_takes_the_same_items_in_another_order(five):
    given = open_inputs(five, "m.onnx", (DATA,))
    batches = calibration_batches((DATA,), {}, 2, 2, given)
    numbers = [int(n) for batch in batches for n in batch["data"][:, 0, 0, 0]]
    assert len(set(numbers)) == 4
    assert set(numbers) < set(range(5))


def test_a_graph_in_the_cache_is_found_without_opening_the_items_and_other_items_make_another(
    tmp_path, monkeypatch
):
    onnx.save(tiny_conv(), tmp_path / "net.onnx")
    items = np.random.default_rng(0).random((20, 3, 8, 8), np.float32)

    def made(items):
        settings = ModelSettings(inputs=save(tmp_path / "items.npz", data=items))
        return prepare(str(tmp_path / "net.onnx"), settings, "int8", "u8s8", tmp_path / "cache")

    first = made(items)
    other = made(items * 3)
    assert first.path != other.path
    monkeypatch.setattr("raybench.models.prepare.given_inputs", None)  # opening would fail
    assert made(items).path == first.path
    with pytest.raises(TypeError):
        made(items * 2)


def test_a_batch_that_is_not_first_and_an_input_without_one_are_read_as_the_model_takes_them(
    tmp_path,
):
    x = np.moveaxis(numbered(6, TensorSpec("x", "float32", ("N", 7, 4))), 0, 1)
    path = save(tmp_path / "late.npz", x=x, rate=np.int64(16000))
    batch = pool_of(path, LATE, batch_size=2).batch(0)
    assert batch["x"].shape == (7, 2, 4)
    assert batch["x"].flags.c_contiguous
    assert (batch["x"] == batch["x"][:1, :, :1]).all()
    assert batch["rate"] == 16000


def test_a_model_of_one_fixed_item_takes_items_one_after_the_other(tmp_path):
    spec = TensorSpec("data", "float32", (1, 3, 2, 2))
    pool = pool_of(save(tmp_path / "five.npz", data=numbered(5)), (spec,), batch_size=1)
    batches = [pool.batch(index)["data"] for index in range(pool.count)]
    assert batches[0].shape == (1, 3, 2, 2)
    assert len({batch[0, 0, 0, 0] for batch in batches}) == 4


# --- folders --------------------------------------------------------------------------------------


def test_a_folder_has_one_file_for_each_input(tmp_path):
    np.save(tmp_path / "ids.npy", numbered(3, TOKENS[0]))
    np.save(tmp_path / "mask.npy", np.ones((3, 4), np.int8))
    (tmp_path / "README.txt").write_text("about")
    given = open_inputs(str(tmp_path), "m.onnx", TOKENS)
    assert [len(each.column) for each in given.values()] == [3, 3]
    assert given["mask"].cast == "mask: int8 to int64"
    assert given["mask"].take(2, (0, 0)).dtype == np.int64


def test_a_folder_has_items_of_the_only_input_one_or_several_to_a_file(tmp_path):
    np.save(tmp_path / "a.npy", numbered(1)[0])
    np.save(tmp_path / "b.npy", numbered(3) + 10)
    numbers = open_inputs(str(tmp_path), "m.onnx", (DATA,))["data"].take(4, (0, 0))[:, 0, 0, 0]
    assert sorted(numbers) == [0, 10, 11, 12]


def picture(path, colours, size=(2, 2)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size)
    image.putdata(colours)
    image.save(path)


@pytest.mark.parametrize(
    ("dtype", "shape", "expected"),
    [
        ("float32", ("N", 3, 2, 2), [[[1, 0], [0, 1]], [[0, 1], [0, 1]], [[0, 0], [1, 1]]]),
        ("uint8", ("N", 2, 2, 3), [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]]),
        ("float16", ("N", 1, 2, 2), [[[76 / 255, 150 / 255], [29 / 255, 1]]]),
    ],
)
def test_an_image_gets_the_layout_and_the_type_of_the_input(tmp_path, dtype, shape, expected):
    spec = TensorSpec("data", dtype, shape)
    picture(tmp_path / "a.png", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)])
    (item,) = open_inputs(str(tmp_path), "m.onnx", (spec,))["data"].take(1, (0, 0))
    assert item.dtype == dtype
    assert np.allclose(item, np.array(expected, dtype), atol=1e-3)


def test_images_are_for_the_input_that_has_no_value(tmp_path):
    picture(tmp_path / "a.png", [(255, 255, 255)] * 4)
    specs = (DATA, TensorSpec("threshold", "float32", ()))
    settings = ModelSettings(inputs=str(tmp_path), values={"threshold": 0.5})
    batch = BatchPool(specs, 2, 0, {}, 1, given_inputs("m.onnx", settings, specs)).batch(0)
    assert (batch["data"].min(), batch["threshold"]) == (1, 0.5)
    np.savez(tmp_path / "both.npz", data=numbered(2), threshold=np.float32(0.1))
    with pytest.raises(ModelError, match=r"'threshold' has a value .* Give one of them"):
        given_inputs("m.onnx", replace(settings, inputs=str(tmp_path / "both.npz")), specs)


def test_an_array_without_a_name_is_for_the_only_input(tmp_path):
    np.savez(tmp_path / "x.npz", numbered(2))
    assert list(open_inputs(str(tmp_path / "x.npz"), "m.onnx", (DATA,))) == ["data"]


def test_images_of_any_size_are_scaled_and_found_in_subfolders(tmp_path):
    for index, size in enumerate([(5, 9), (40, 3)]):
        grey = [(51, 51, 51)] * (size[0] * size[1])
        picture(tmp_path / "images" / f"class {index}" / f"{index}.jpg", grey, size)
    items = open_inputs(str(tmp_path), "m.onnx", (DATA,))["data"].take(2, (0, 0))
    assert items.shape == (2, 3, 2, 2)
    assert np.allclose(items, 0.2, atol=0.01)


def test_three_channels_come_before_one_when_both_could_be_meant():
    spec = TensorSpec("x", "uint8", ("N", 1, 8, 3))
    assert ImageLayout.of(spec, (1, 8, 3)) == ImageLayout(1, 8, 3, False, "uint8")


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"ids": np.zeros((2, 4), np.int64)}, r"no array for input 'mask' .*It has: ids\..*model\.values\.mask="),
        ({"ids": np.zeros((2, 5), int), "mask": np.zeros((2, 4), int)}, r"'ids' .*\[N, 4\].*\[2, 5\]"),
        ({"ids": np.zeros(4, int), "mask": np.zeros((1, 4), int)}, r"'ids' .*\[4\]"),
        ({"ids": np.zeros((2, 4)), "mask": np.zeros((2, 4), int)}, r"'ids' .*float64.*takes int64.*astype"),
        ({"ids": np.array([["a"] * 4]), "mask": np.zeros((1, 4), int)}, r"'ids' .*<U1.*takes int64"),
        ({"ids": np.zeros((2, 4), int), "mask": np.zeros((3, 4), int)}, r"2 of 'ids', 3 of 'mask'"),
        ({"ids": np.zeros((0, 4), int), "mask": np.zeros((0, 4), int)}, r"no item of input 'ids'"),
        ({"ids": np.full((2, 4), None), "mask": np.zeros((2, 4), int)}, r"cannot be read as arrays"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused_in_one_sentence(tmp_path, arrays, sentence):
    path = save(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ModelError, match=sentence) as caught:
        open_inputs(path, "m.onnx", TOKENS)
    assert "\n" not in str(caught.value)


def test_files_that_are_none_of_these_are_refused(tmp_path):
    (tmp_path / "x.csv").write_text("1,2")
    (tmp_path / "cut.npz").write_bytes(b"PK\3\4 cut off")
    (tmp_path / "empty").mkdir()
    both = tmp_path / "both"
    picture(both / "a.png", [(0, 0, 0)] * 4)
    np.save(both / "b.npy", numbered(2))
    for name, sentence in (
        ("missing", "does not exist. Give an .npz file, or a folder"),
        ("x.csv", "no file of arrays and no image"),
        ("cut.npz", "cannot be read as arrays"),
        ("empty", "holds no .npy file and no image"),
        ("both", "Keep one kind"),
    ):
        with pytest.raises(ModelError, match=sentence):
            open_inputs(str(tmp_path / name), "m.onnx", (DATA,))


def test_images_for_an_input_that_takes_none_are_refused(tmp_path):
    picture(tmp_path / "a.png", [(0, 0, 0)] * 4)
    for specs, sentence in (
        (TOKENS, "'m.onnx' needs ids, mask. Give an .npz file"),
        (TOKENS[:1], "'ids' is int64, and images become uint8 or floats"),
        ((TensorSpec("x", "float32", ("N", 4, 8, 8)),), "1 or 3 channels"),
    ):
        with pytest.raises(ModelError, match=sentence):
            open_inputs(str(tmp_path), "m.onnx", specs)


def test_a_broken_image_is_found_before_anything_runs(tmp_path, tiny):
    picture(tmp_path / "images" / "a.png", [(0, 0, 0)] * 64, (8, 8))
    whole = (tmp_path / "images" / "a.png").read_bytes()
    (tmp_path / "images" / "b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"b\.png' cannot be read as an image"):
        inspected(tiny, ModelSettings(inputs=str(tmp_path / "images")))


# --- sizes that the model leaves open


def test_arrays_set_the_sizes_that_a_model_leaves_open(tmp_path):
    model = tmp_path / "bert.onnx"
    onnx.save(tiny_bert(table=50), model)
    path = save(tmp_path / "ids.npz", ids=np.ones((6, 9), int), mask=np.ones((6, 9), int))
    settings = ModelSettings(inputs=path)
    assert sized(str(model), settings) == replace(settings, shapes={"sequence": 9})
    given = replace(settings, shapes={"sequence": 4})
    assert sized(str(model), given) == given
    with pytest.raises(ModelError, match=r"'ids' .*\[N, 4\].*\[6, 9\]"):
        inspected(model, given)


def test_a_dimension_without_a_name_gets_the_size_of_the_array(tmp_path):
    model = tmp_path / "bert.onnx"
    onnx.save(tiny_bert(batch="batch", sequence=None, table=50), model)
    path = save(tmp_path / "ids.npz", ids=np.ones((6, 9), int), mask=np.ones((6, 9), int))
    settings = sized(str(model), ModelSettings(inputs=path))
    assert settings.shapes == {"ids": ["N", 9], "mask": ["N", 9]}
    assert inspected(model, settings).items == 6


def test_a_model_of_the_zoo_has_no_open_sizes(five):
    assert sized("alexnet", ModelSettings(inputs=five)) == ModelSettings(inputs=five)


# --- values, on the driver ------------------------------------------------------------------------


def bert(tmp_path, ids, mask=None, **settings):
    model = tmp_path / "bert.onnx"
    onnx.save(tiny_bert(table=50), model)
    path = save(tmp_path / "ids.npz", ids=ids, mask=np.ones_like(ids) if mask is None else mask)
    return inspected(model, ModelSettings({"sequence": 4}, inputs=path, **settings))


def test_the_facts_of_the_files_are_found_once(tmp_path):
    found = bert(tmp_path, np.full((6, 4), 49, np.int32))
    assert (found.name, found.items) == ("ids.npz", 6)
    assert str(found) == f"file ids.npz; 6 items; sha256 {found.sha256[:12]}"
    assert found.casts == ("ids: int32 to int64", "mask: int32 to int64")
    pool = pool_of(str(tmp_path / "ids.npz"), TOKENS, batch_size=16)
    notes = input_notes(found, pool)
    assert notes[0] == "Real inputs are converted, without loss: ids: int32 to int64."
    assert "6 real items are repeated to fill the" in notes[-1]


def test_arrays_that_are_no_inputs_are_named(tmp_path):
    model = tmp_path / "bert.onnx"
    onnx.save(tiny_bert(table=50), model)
    ids = np.full((6, 4), 49)
    path = save(tmp_path / "ids.npz", ids=ids, mask=np.ones_like(ids), labels=ids, extra=ids)
    found = inspected(model, ModelSettings({"sequence": 4}, inputs=path))
    assert found.unused == ("labels", "extra")
    note = input_notes(found, pool_of(path, TOKENS, batch_size=16))[0]
    assert note == "Arrays that are no inputs of the model are left out: labels, extra."


def test_an_index_outside_the_table_is_refused_with_its_value(tmp_path):
    with pytest.raises(
        ModelError, match=r"Item 1 of 'ids' in '.*ids\.npz' holds 50, outside 0 to 49"
    ):
        bert(tmp_path, np.array([[3, 4, 5, 49], [3, 4, 5, 50]]))
    with pytest.raises(
        ModelError, match=r"Item 0 of 'mask' .* holds 2, outside 0 to 1: .*model\.ranges\.mask"
    ):
        bert(tmp_path, np.array([[3, 4, 5, 6]]), np.array([[0, 1, 2, 0]]), ranges={"mask": [0, 1]})


def test_values_that_are_not_finite_or_too_large_are_refused(tmp_path, tiny):
    onnx.save(tiny_conv(), tiny)
    data = np.zeros((2, 3, 8, 8), np.float32)
    data[1, 0, 0, 0] = np.inf
    with pytest.raises(ModelError, match=r"Item 1 of 'data' .* holds inf, which is not finite"):
        inspected(tiny, ModelSettings(inputs=save(tmp_path / "bad.npz", data=data)))
    with pytest.raises(ModelError, match=r"18446744073709551615, and int64 goes from"):
        bert(tmp_path, np.full((1, 4), 2**64 - 1, np.uint64))


def test_the_advice_for_a_missing_input_and_a_wrong_type_works(tmp_path):
    model = tmp_path / "bert.onnx"
    onnx.save(tiny_bert(table=50), model)
    path = save(tmp_path / "ids.npz", ids=np.ones((3, 4)))
    settings = ModelSettings({"sequence": 4}, inputs=path)
    with pytest.raises(ModelError, match=r"set model\.values\.mask=\.\.\."):
        inspected(model, settings)
    settings = replace(settings, values={"mask": 1})
    with pytest.raises(ModelError, match=r"array\.astype\('int64'\)"):
        inspected(model, settings)
    save(tmp_path / "ids.npz", ids=np.ones((3, 4)).astype("int64"))
    assert inspected(model, settings).items == 3


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.png", "a.jpg"])
def test_a_damaged_file_is_read_or_refused_in_a_sentence(tmp_path, name):
    path = tmp_path / name
    if name.endswith((".png", ".jpg")):
        picture(path, [(k, 255 - k, 3) for k in range(64)], (8, 8))
    elif name.endswith(".npz"):
        np.savez_compressed(path, data=numbered(5))
    else:
        np.save(path, numbered(5))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    sentences = []
    for _ in range(60):
        damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, len(damaged), rng.integers(0, 4)):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            open_inputs(str(path), "m.onnx", (DATA,))["data"].check(None)
        except ModelError as error:
            sentences.append(str(error))
    assert len(sentences) > 20
    assert not any("\n" in sentence for sentence in sentences)

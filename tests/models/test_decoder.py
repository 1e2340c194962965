from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest

from raybench.errors import Refused, Unsupported
from raybench.experiment import ModelSettings
from raybench.models import builder, written_precision
from raybench.models.builder import Weight
from raybench.models.comparison import compare
from raybench.models.decoder import DecoderSizes
from raybench.models.decoder_recipe import DecoderRecipe
from raybench.models.graph.macs import count
from raybench.models.graph.operations import read_operations
from raybench.models.items.batches import BatchPool
from raybench.models.items.initial_state import InitialState
from raybench.models.prepare import prepare
from raybench.models.state import read_kept_outputs, read_state
from raybench.models.weight_files import FILE
from raybench.models.zoo import RECIPES, decoders
from tests.helpers.numpy_decoder import NumpyDecoder
from tests.helpers.tiny_decoder import TINY, shrink

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

UNTIED = DecoderSizes(
    width=24,
    blocks=1,
    heads=3,
    kv_heads=1,
    head=8,
    feed_forward=40,
    vocabulary=50,
    tied=False,
    theta=5e5,
)


class Graphs:
    """The two graphs of a decoder on ONNX Runtime, at any lengths."""

    def __init__(self, sizes: DecoderSizes, folder: Path) -> None:
        self.sizes, self._folder = sizes, folder
        self.weights = {
            weight.name: weight.values(0)
            for weight in DecoderRecipe.usual("d", 1, sizes, "step").weight_file(0).weights
        }

    def run(self, part: str, feed: dict[str, Array], **lengths: int) -> dict[str, Array]:
        recipe = DecoderRecipe.usual("d", 1, self.sizes, part).with_lengths(lengths)  # type: ignore[arg-type]
        proto = recipe.model(None)
        weights = recipe.weight_file(0)
        if not (self._folder / FILE).exists():
            weights.write(self._folder)
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        weights.place(proto, self._folder, folder)
        path = folder / f"{part}.onnx"
        path.write_bytes(proto.SerializeToString())
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feed), strict=True))


@pytest.fixture(params=[TINY, UNTIED], ids=["tied", "untied"])
def graphs(request: pytest.FixtureRequest, tmp_path: Path) -> Graphs:
    return Graphs(request.param, tmp_path)


def prompts(sizes: DecoderSizes, items: int, tokens: int) -> Array:
    return np.random.default_rng(3).integers(0, sizes.vocabulary, (items, tokens))


def test_prefill_and_steps_generate_what_a_decoder_without_a_cache_does(graphs: Graphs) -> None:
    tokens = prompts(graphs.sizes, 2, 5)
    decoders = [NumpyDecoder(graphs.sizes, graphs.weights) for _ in tokens]
    expected = [
        [decoder.read(token) for token in row][-1]
        for decoder, row in zip(decoders, tokens, strict=True)
    ]
    found = graphs.run("prefill", {"tokens": tokens}, prompt=5)
    assert np.allclose(found["logits"], expected, atol=1e-5)
    assert found["token"].tolist() == [[int(np.argmax(row))] for row in expected]
    names = [f"{part}.{block}" for block in range(graphs.sizes.blocks) for part in ("key", "value")]
    cache, token = {name: found[name] for name in names}, found["token"]
    for length in range(5, 9):  # a graph for each length of the cache, which holds every token
        feed = {f"past_{name}": values for name, values in cache.items()}
        position = np.array([length])
        step = graphs.run("step", {"token": token, "position": position, **feed}, context=length)
        expected = [d.read(int(one)) for d, (one,) in zip(decoders, token, strict=True)]
        assert np.allclose(step["logits"], expected, atol=1e-5)
        assert step["next_position"].tolist() == [length + 1]
        cache = {n: np.concatenate([cache[n], step[f"new_{n}"]], axis=2) for n in names}
        token = step["next_token"]


def test_a_full_ring_is_a_window_over_the_newest_tokens(graphs: Graphs) -> None:
    tokens = prompts(graphs.sizes, 2, 4)
    decoders = [NumpyDecoder(graphs.sizes, graphs.weights, window=4) for _ in tokens]
    for decoder, row in zip(decoders, tokens, strict=True):
        for one in row:
            decoder.read(one)
    found = graphs.run("prefill", {"tokens": tokens}, prompt=4)
    names = [f"{part}.{block}" for block in range(graphs.sizes.blocks) for part in ("key", "value")]
    rings, token, position = {n: found[n].copy() for n in names}, found["token"], np.array([4])
    for batch in range(7):
        feed = {f"past_{name}": ring for name, ring in rings.items()}
        step = graphs.run("step", {"token": token, "position": position, **feed}, context=4)
        expected = [d.read(int(one)) for d, (one,) in zip(decoders, token, strict=True)]
        assert np.allclose(step["logits"], expected, atol=1e-5), batch
        for name, ring in rings.items():
            ring[:, :, batch % 4] = step[f"new_{name}"][:, :, 0]
        token, position = step["next_token"], step["next_position"]


PUBLISHED = {  # parameters
    "decoder_125m": 134_515_008,  # SmolLM-135M
    "decoder_1b": 1_235_814_400,  # Llama 3.2 1B
    "decoder_8b": 8_030_261_248,  # Llama 3.1 8B
}


def macs_by_hand(sizes: DecoderSizes, tokens: int, seen: int, logits: int) -> int:
    """Multiply-accumulates of tokens that each see so many, and of so many rows of logits."""
    of_layers = 2 * (sizes.heads + sizes.kv_heads) * sizes.head + 3 * sizes.feed_forward
    of_attention = 2 * sizes.heads * sizes.head * seen
    blocks = tokens * sizes.blocks * (sizes.width * of_layers + of_attention)
    return blocks + logits * sizes.width * sizes.vocabulary


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_size_has_the_published_parameters_and_their_products(name: str) -> None:
    prefill, step = (RECIPES[f"{name}_{part}"] for part in ("prefill", "step"))
    sizes = decoders.SIZES[name]
    for recipe in (prefill, step):
        weights = recipe.weight_file(0)
        assert weights is not None
        assert weights.elements == PUBLISHED[name]
    of_prefill, of_step = (count(recipe.model(None)).macs_per_item for recipe in (prefill, step))
    assert of_step == macs_by_hand(sizes, 1, 513, 1)
    assert of_prefill == macs_by_hand(sizes, 128, 128, 1)


def test_a_graph_says_what_stays_on_the_device() -> None:
    step = RECIPES["decoder_125m_step"].model(None)
    state = {one.input: one for one in read_state(step)}
    assert state.keys() == {value.name for value in step.graph.input}
    assert (state["past_key.0"].output, state["past_key.0"].ring_axis) == ("new_key.0", 2)
    assert (state["token"].output, state["token"].ring_axis) == ("next_token", None)
    outputs = {value.name for value in step.graph.output}
    assert outputs - read_kept_outputs(step) == {"next_token"}
    prefill = RECIPES["decoder_125m_prefill"].model(None)
    assert read_state(prefill) == ()
    assert {value.name for value in prefill.graph.output} - read_kept_outputs(prefill) == {"token"}


def test_positions_begin_again_after_the_new_tokens(graphs: Graphs) -> None:
    caches = graphs.sizes.caches("past_", "float32", 3)
    feed = {spec.name: np.ones(spec.with_batch(1), np.float32) for spec in caches}
    feed |= {"token": np.array([[1]]), "position": np.array([4])}
    step = graphs.run("step", feed, context=3, new_tokens=2)
    assert step["next_position"].tolist() == [3]


def test_a_step_copies_nothing_of_the_size_of_the_cache() -> None:
    """Each reads a cache by a product alone, whose transposed factor engines read where it lies."""
    model = RECIPES["decoder_125m_step"].model(None)
    readers = [node for node in model.graph.node if any("past_" in name for name in node.input)]
    turned = {node.output[0] for node in readers if node.op_type == "Transpose"}
    assert {node.op_type for node in readers} == {"Transpose", "MatMul"}
    of_turned = {n.op_type for n in model.graph.node if turned.intersection(n.input)}
    assert of_turned == {"MatMul"}


def test_weights_beside_a_graph_are_those_of_its_recipe(tmp_path: Path) -> None:
    recipe = DecoderRecipe.usual("d", 1, TINY, "step")
    proto, weights = recipe.model(None), recipe.weight_file(5)
    (tmp_path / "shared").mkdir()
    weights.write(tmp_path / "shared")
    weights.place(proto, tmp_path / "shared", tmp_path)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    inline = recipe.model(5)
    stored = read_operations(tmp_path / "model.onnx").weights
    expected = {t.name: onnx.numpy_helper.to_array(t) for t in inline.graph.initializer}
    assert stored.keys() == expected.keys()
    assert all(np.array_equal(stored[name], expected[name]) for name in stored)
    drawn = [stored[weight.name].tobytes() for weight in weights.weights]
    assert len(set(drawn)) == len(drawn)


def test_weights_larger_than_a_block_are_drawn_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "_BLOCK", 64)
    weight = Weight("w", (7, 31), 0.5, 0.25)
    blocks = list(weight.blocks(3, "float32"))
    assert [len(block) for block in blocks] == [64, 64, 64, 25]
    assert np.array_equal(np.concatenate(blocks), weight.values(3).ravel())


def test_weights_that_the_disk_has_no_room_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**9))
    weights = RECIPES["decoder_8b_step"].weight_file(0)
    assert weights is not None
    with pytest.raises(Refused, match=r"32\.1 GB .* 1\.0 GB are free.*RAYBENCH_CACHE"):
        weights.write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zoo's smallest decoder with a few weights."""
    shrink(monkeypatch)


SHORT = {
    "prefill": ModelSettings(shapes={"prompt": 6}),
    "step": ModelSettings(shapes={"context": 6, "new_tokens": 8}),
}


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("part", ["prefill", "step"])
def test_half_precision_has_the_cache_in_half_and_near_the_same_logits(
    part: str, tmp_path: Path
) -> None:
    fp32, fp16 = (
        prepare(f"decoder_125m_{part}", SHORT[part], precision, None, tmp_path)
        for precision in ("fp32", "fp16")
    )
    caches = [s for s in (*fp16.inputs, *fp16.outputs) if "key" in s.name or "value" in s.name]
    assert {spec.dtype for spec in caches} == {"float16"}
    assert fp16.reduced_ops is not None
    assert "MatMul:float16" in fp16.reduced_ops
    assert "Sqrt" in fp16.conversion.kept_fp32_ops
    assert fp16.weight_bytes is not None
    assert fp32.weight_bytes is not None
    assert 2 * fp32.parameters < fp16.weight_bytes < 0.55 * fp32.weight_bytes
    pool = BatchPool(fp16.fed_inputs, 2, 0, fp16.ranges, min_bytes=1)
    state = InitialState.of(fp16, pool)
    feed = pool.batch(0)
    for spec in fp16.state_inputs:
        feed[spec.name] = np.empty(spec.with_batch(2), spec.dtype)
        state.write(spec.name, feed[spec.name])
    session = onnxruntime.InferenceSession(str(fp16.path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, feed), strict=True))
    compared = compare(outputs, fp16, pool, tmp_path)
    assert compared.fidelity is not None
    assert compared.fidelity.sqnr_db > 45


@pytest.mark.usefixtures("tiny")
def test_a_large_decoder_in_half_precision_writes_no_fp32_graph_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written_precision, "LARGEST_REFERENCE_BYTES", 1000)
    model = prepare("decoder_125m_step", SHORT["step"], "fp16", None, tmp_path)
    assert list(tmp_path.rglob("*.onnx")) == [model.path]
    pool = BatchPool(model.fed_inputs, 2, 0, model.ranges, min_bytes=1)
    assert (
        "were not compared with fp32"
        in compare({"logits": np.ones(3)}, model, pool, tmp_path).notes[0]
    )
    assert prepare("decoder_125m_step", SHORT["step"], "fp32", None, tmp_path).no_reference == ""


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("precision", ["int8", "int8_fp16"])
def test_a_decoder_has_no_int8(precision: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="quantise all of its cache for every token"):
        prepare("decoder_125m_step", SHORT["step"], precision, "u8s8", tmp_path)
    assert not list(tmp_path.rglob("*.onnx"))


@pytest.mark.usefixtures("tiny")
def test_the_graphs_of_a_decoder_share_one_file_of_weights(tmp_path: Path) -> None:
    longer = ModelSettings(shapes={"context": 9})
    models = [
        prepare("decoder_125m_step", SHORT["step"], "fp32", None, tmp_path),
        prepare("decoder_125m_step", longer, "fp32", None, tmp_path),
        prepare("decoder_125m_prefill", SHORT["prefill"], "fp32", None, tmp_path),
    ]
    assert len({model.sha256 for model in models}) == 3
    files = {model.path.with_name(FILE).stat().st_ino for model in models}
    assert len(files) == 1
    other = prepare("decoder_125m_step", ModelSettings(seed=1), "fp32", None, tmp_path)
    assert other.path.with_name(FILE).stat().st_ino not in files

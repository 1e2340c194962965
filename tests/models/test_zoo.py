from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest

from raybench.errors import ModelError
from raybench.experiment import ModelSettings
from raybench.models import zoo
from raybench.models.builder import Weight
from raybench.models.graph.macs import count
from raybench.models.graph.shape_inference import skeleton
from raybench.models.items.batches import BatchPool
from raybench.models.items.ragged import ragged_notes
from raybench.models.prepare import prepare
from raybench.models.source import check
from raybench.report import fleet_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from raybench.models.model import Model


def test_naming_models_needs_no_vendor_library() -> None:
    heavy = "('onnx', 'onnxruntime', 'scipy', 'ray')"
    code = (
        "import sys; from raybench.models import zoo, source, prepare, reference; from raybench.models.items import batches; zoo.names();"
        f"sys.exit(str([m for m in {heavy} if m in sys.modules] or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() in ("", "0")


@pytest.mark.parametrize("name", zoo.names())
def test_every_recipe_writes_valid_onnx_of_opset_17(name: str) -> None:
    model = zoo.RECIPES[name].model(None)
    bare = skeleton(model)
    del bare.graph.output[:]
    bare.graph.output.extend(model.graph.output)
    onnx.checker.check_model(bare)
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    assert [node.name for node in model.graph.node] == [node.output[0] for node in model.graph.node]


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    def sha(seed: int, folder: str) -> str:
        return prepare(
            "googlenet", ModelSettings(seed=seed), "fp32", None, tmp_path / folder
        ).sha256

    assert sha(0, "a") == sha(0, "b")
    assert sha(0, "a") != sha(1, "a")


def test_weights_depend_on_their_name_and_not_on_building_order() -> None:
    drawn = Weight("conv_1.w", (1000,), 0.5).values(0)
    assert np.array_equal(drawn, Weight("conv_1.w", (1000,), 0.5).values(0))
    assert not np.array_equal(drawn, Weight("conv_2.w", (1000,), 0.5).values(0))
    assert -0.5 <= drawn.min() < -0.49
    assert 0.49 < drawn.max() <= 0.5


@pytest.mark.parametrize("name", ["alexnet", "googlenet", "resnet50", "yolov8s"])
def test_activations_stay_far_from_the_ends_of_fp16(
    name: str, prepared: Callable[..., Model]
) -> None:
    model = prepared(name)
    graph = onnx.load(model.path)
    layers = [node for node in graph.graph.node if node.op_type in ("Conv", "Gemm")]
    values = [node.output[0] for node in layers]
    del graph.graph.output[:]
    graph.graph.output.extend(onnx.ValueInfoProto(name=value) for value in values)
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    batch = BatchPool(model.inputs, 2, 1, model.ranges, min_bytes=1).batch(0)
    peaks = [float(np.abs(output).max()) for output in session.run(values, batch)]
    assert min(peaks) > 0
    assert 1 < max(peaks) < 30


def test_the_report_knows_the_size_of_an_item_that_shows_one_part_of_a_device() -> None:
    gemm, copy = (zoo.RECIPES[name] for name in ("gemm", "copy"))
    assert 2 * (count(gemm.model(None)).macs_per_item or 0) == fleet_lines.GEMM_OPERATIONS
    (numbers,) = copy.inputs
    assert np.zeros(numbers.with_batch(1), numbers.dtype).nbytes == fleet_lines.COPY_BYTES
    assert copy.output == numbers.shape


def test_bert_knows_its_vocabulary(prepared: Callable[..., Model]) -> None:
    recipe = zoo.RECIPES["bert_base"]
    assert recipe.ranges == {"input_ids": (0, 30521), "token_type_ids": (0, 1)}


def test_padding_changes_nothing_and_is_counted(prepared: Callable[..., Model]) -> None:
    model = prepared("minilm_l6_ragged")
    pool = BatchPool(model.inputs, 8, 0, model.ranges)
    session = onnxruntime.InferenceSession(model.path)
    batch = {name: array.copy() for name, array in pool.batch(0).items()}
    (before,) = session.run(None, batch)
    padded = np.arange(128) >= batch["lengths"]
    batch["input_ids"][padded] = 7
    (after,) = session.run(None, batch)
    assert np.array_equal(before, after)
    batch["input_ids"][:, 0] = 7
    assert not np.allclose(session.run(None, batch)[0], before)

    lengths = pool.stored("lengths")
    assert lengths.min() >= 1
    (note,) = ragged_notes("minilm_l6_ragged", pool)
    assert f"{100 * (1 - lengths.mean() / 128):.1f} % of the tokens are padding" in note
    assert ragged_notes("minilm_l6", pool) == ()


@pytest.mark.parametrize("ends", [[0, 8], [8, 640]])
def test_texts_of_no_tokens_or_of_more_than_fit_are_refused(ends: list[int]) -> None:
    with pytest.raises(
        ModelError, match=r"lengths=.* leaves 1\.\.128, what 'minilm_l6_ragged' takes"
    ):
        check("minilm_l6_ragged", ModelSettings(ranges={"lengths": ends}))


def test_all_tokens_give_what_the_network_without_padding_gives(
    prepared: Callable[..., Model],
) -> None:
    whole, ragged = prepared("minilm_l6"), prepared("minilm_l6_ragged")
    batch = dict(BatchPool(whole.inputs, 2, 0, whole.ranges).batch(0))
    full = {**batch, "lengths": np.full((2, 1), 128, np.int64)}
    (expected,) = onnxruntime.InferenceSession(whole.path).run(None, batch)
    (found,) = onnxruntime.InferenceSession(ragged.path).run(None, full)
    assert np.allclose(found, expected, atol=1e-6)

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from raybench.models import reference
from raybench.models.fidelity import CAP_DB, fidelity
from raybench.models.items.batches import BatchPool
from raybench.models.reference import reference_outputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from raybench.models.model import Model

LOGITS = np.random.default_rng(0).standard_normal((16, 100))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_no_difference_is_the_cap() -> None:
    near = fidelity({"y": LOGITS}, {"y": LOGITS.copy()}, set())
    assert (near.sqnr_db, near.cosine) == (CAP_DB, 1.0)


def test_noise_of_known_power_gives_its_ratio() -> None:
    noise = np.random.default_rng(1).standard_normal(LOGITS.shape) * 0.01
    near = fidelity({"y": LOGITS}, {"y": LOGITS + noise}, set())
    assert near.sqnr_db == pytest.approx(40, abs=0.5)
    assert near.cosine == pytest.approx(1 - 0.5e-4, abs=1e-5)


def test_softmax_outputs_are_compared_as_logits() -> None:
    moved = (
        LOGITS + np.random.default_rng(1).standard_normal((16, 1)) * 5
    )  # a common shift is no difference
    near = fidelity({"p": softmax(LOGITS)}, {"p": softmax(moved)}, {"p"})
    assert near.sqnr_db > 150
    noisy = fidelity(
        {"p": softmax(LOGITS)},
        {"p": softmax(LOGITS + np.random.default_rng(1).standard_normal(LOGITS.shape) * 0.01)},
        {"p"},
    )
    assert noisy.sqnr_db == pytest.approx(40, abs=0.5)


def test_what_half_precision_writes_as_zero_is_no_wrong_output() -> None:
    sure = softmax(LOGITS * 5)
    halved = sure.astype(np.float16)
    assert 0.01 < (halved == 0).mean() < 0.5
    assert fidelity({"p": sure}, {"p": halved}, {"p"}).sqnr_db > 30
    assert fidelity({"p": sure}, {"p": np.zeros_like(sure)}, {"p"}).sqnr_db <= 0


def test_the_worst_output_counts() -> None:
    noisy = LOGITS + np.random.default_rng(1).standard_normal(LOGITS.shape)
    near = fidelity({"a": LOGITS, "b": LOGITS}, {"a": LOGITS, "b": noisy}, set())
    assert near.sqnr_db == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize(
    "broken", [np.zeros((4, 8)), np.full((4, 8), np.nan), np.full((4, 8), np.inf)]
)
def test_broken_outputs_score_badly(broken: np.ndarray) -> None:
    near = fidelity({"y": LOGITS[:4, :8]}, {"y": broken}, set())
    assert near.sqnr_db <= 0
    assert near.cosine == 0


def test_a_single_number_per_item_is_not_centred_away() -> None:
    near = fidelity({"y": LOGITS[:, :1]}, {"y": LOGITS[:, :1] * 1.1}, set())
    assert near.sqnr_db == pytest.approx(20, abs=0.1)


def test_rows_of_one_value_each_are_not_centred_away() -> None:
    same = np.repeat(LOGITS[:, :1], 8, axis=1).astype(np.float32)
    near = fidelity({"y": same}, {"y": same * 1.1}, set())
    assert near.sqnr_db == pytest.approx(20, abs=0.1)
    uniform = np.full((4, 8), 1 / 8, np.float32)
    nearly = uniform + np.random.default_rng(1).normal(0, 1e-4, uniform.shape)
    assert fidelity({"p": uniform}, {"p": nearly}, {"p"}).sqnr_db > 40


def test_more_items_than_the_reference_are_cut_and_other_shapes_refused() -> None:
    assert fidelity({"y": LOGITS[:4]}, {"y": LOGITS}, set()).sqnr_db == CAP_DB
    with pytest.raises(ValueError, match="shape"):
        fidelity({"y": LOGITS}, {"y": LOGITS[:, :7]}, set())
    with pytest.raises(ValueError, match="missing"):
        fidelity({"y": LOGITS}, {"x": LOGITS}, set())
    assert fidelity({}, {"x": LOGITS}, set()) is None


def test_the_reference_is_computed_once_and_follows_the_pool(
    prepared: Callable[..., Model], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = prepared("googlenet", "int8", "s8s8")
    pool = BatchPool(model.inputs, 2, 0, model.ranges, min_bytes=1)
    outputs = reference_outputs(model, pool, 2, cache)
    assert outputs["output"].shape == (2, 1000)
    assert outputs["output"].sum(axis=1) == pytest.approx(1, abs=1e-4)
    monkeypatch.setattr(reference, "run_graph", None)  # a second run would fail
    assert np.array_equal(reference_outputs(model, pool, 2, cache)["output"], outputs["output"])
    with pytest.raises(TypeError):
        reference_outputs(model, BatchPool(model.inputs, 2, 1, model.ranges, min_bytes=1), 2, cache)

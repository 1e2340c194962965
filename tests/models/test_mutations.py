"""Mutated graphs end in a row or a sentence, never in a traceback, and no worker dies of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.graph_mutations import mutated
from helpers.graph_runs import ROUNDED, Row, outcomes

if TYPE_CHECKING:
    from pathlib import Path

FEW, ALL = 30, 300
SEEDS = [pytest.param(seed, marks=[pytest.mark.slow] if seed >= FEW else []) for seed in range(ALL)]
ROWS = (
    ("fp32", "onnxruntime"),
    ("fp32", "openvino"),
    ("int8", "onnxruntime"),
    ("int8", "openvino"),
    ("fp16", ROUNDED),
    ("int8_fp16", ROUNDED),
)
SENTENCES = {"ok", "refused", "unsupported", "failed", "out_of_memory"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_mutated_graph_is_a_row_or_a_sentence(seed: int, tmp_path: Path) -> None:
    path, what = mutated(seed, tmp_path)
    rows = [Row(path, precision, engine, batch_size=2) for precision, engine in ROWS]
    for row, found in zip(rows, outcomes(rows, tmp_path / "cache"), strict=True):
        where = f"{what}; {row.precision} on {row.engine}: {found}"
        assert found.status in SENTENCES, where
        assert "\n" not in found.sentence, where
        assert found.status == "ok" or found.sentence.strip(), where
        assert found.status != "refused" or path.stem in found.sentence, where

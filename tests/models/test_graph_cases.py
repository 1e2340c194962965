"""What becomes of each kind of graph, in every precision and on both CPU engines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import onnx
import pytest
from helpers.graph_cases import CASES
from helpers.graph_runs import ROUNDED, Outcome, Row, outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINES = ("onnxruntime", "openvino")

SETTINGS = {
    "dotted_dims": {"shapes": {"p2o.DynamicDimension.1": 8, "p2o.DynamicDimension.2": 8}},
    "question_marks": {"shapes": {"x": ["N", 3, 8, 6]}},
    "scalar_input": {"values": {"rate": 3}},
}
BATCH = {"two_static_inputs": 1}


@dataclass(frozen=True)
class Expected:
    """A status, the least dB (None: there is none to compare), and a part of the sentence."""

    status: str
    least_db: float | None = None
    says: str = ""


def ok(least_db: float | None, says: str = "") -> Expected:
    return Expected("ok", least_db, says)


def refused(says: str) -> Expected:
    return Expected("refused", says=says)


def unsupported(says: str) -> Expected:
    return Expected("unsupported", says=says)


EXACT, GOOD, HALF = ok(80), ok(30), ok(40)
AS_IS = ok(None, "no fp32 graph")
NOTHING = unsupported("int8")
TABLE = {
    # case: (fp32, int8, fp16 by rounding, as_is)
    "dynquant_ms": (*(refused("DynamicQuantizeMatMul"),) * 3, AS_IS),
    "fp16_in_constant": (*(refused("float16"),) * 3, AS_IS),
    "half_in_if": (*(refused("float16"),) * 3, AS_IS),
    "nameless_identity": (EXACT, GOOD, HALF),
    "onlyrelu": (EXACT, NOTHING, HALF),
    "convtranspose": (EXACT, NOTHING, HALF),
    "lstm": (EXACT, NOTHING, HALF),
    "if_only": (EXACT, NOTHING, HALF),
    "no_kernel_shape": (EXACT, GOOD, HALF),
    "bias_add": (EXACT, GOOD, HALF),
    "bias_add_reshape": (EXACT, GOOD, HALF),
    "matmul_bias": (EXACT, GOOD, HALF),
    "ln_tokens": (EXACT, GOOD, HALF),
    "tanh_gelu": (EXACT, GOOD, HALF),
    "rms_half": (EXACT, GOOD, HALF),
    "two_names": (EXACT, GOOD, HALF),
    "duplicate_names": (EXACT, GOOD, HALF),
    "string_output": (unsupported("string"),) * 3,
    "dotted_dims": (EXACT, NOTHING, HALF),
    "question_marks": (EXACT, NOTHING, HALF),
    "batch_second": (EXACT, GOOD, HALF),
    "state_second": (EXACT, GOOD, HALF),
    "empty": (refused("no node"),) * 3,
    "output_is_input": (EXACT, GOOD, HALF),
    "output_twice": (EXACT, GOOD, HALF),
    "gather_in_constant": (EXACT, NOTHING, unsupported("fp16")),
    "time_first_output": (EXACT, GOOD, HALF),
    "two_static_inputs": (EXACT, GOOD, HALF),
    "scalar_input": (EXACT, NOTHING, HALF),
}
PRECISIONS = ("fp32", "int8", "fp16", "as_is")


def rows_of(name: str) -> list[tuple[str, str]]:
    """Return precision and engine of each row of a case."""
    return [
        (precision, engine)
        for precision, _ in zip(PRECISIONS, TABLE[name], strict=False)
        for engine in ((ROUNDED,) if precision == "fp16" else ENGINES)
    ]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, str], Outcome]:
    """Return a function that runs all rows of a case at once and returns one of them."""
    folder = tmp_path_factory.mktemp("cases")

    @cache
    def of_case(name: str) -> dict[tuple[str, str], Outcome]:
        path = folder / f"{name}.onnx"
        onnx.save(CASES[name].build(), path)
        more = (SETTINGS.get(name, {}), BATCH.get(name, 4))
        rows = [Row(path, *row, *more) for row in rows_of(name)]
        return dict(zip(rows_of(name), outcomes(rows, folder / "cache"), strict=True))

    return lambda name, precision, engine: of_case(name)[precision, engine]


ROWS = [(name, *row) for name in TABLE for row in rows_of(name)]


@pytest.mark.parametrize(("name", "precision", "engine"), ROWS)
def test_a_row_is_what_it_says_it_is(
    name: str, precision: str, engine: str, outcome: Callable[[str, str, str], Outcome]
) -> None:
    expected = TABLE[name][PRECISIONS.index(precision)]
    found = outcome(name, precision, engine)
    assert found.status == expected.status, found
    assert expected.says in found.sentence, found
    if expected.least_db is None:
        assert found.sqnr_db is None
    else:
        assert found.sqnr_db is not None
        assert found.sqnr_db >= expected.least_db


def test_every_case_is_in_the_table() -> None:
    assert set(TABLE) == set(CASES)

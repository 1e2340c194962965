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
    "lstm": (ok(None, "'y'"), NOTHING, HALF),
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
    "gather_in_constant": (EXACT, NOTHING, unsupported("fp16")),
    "time_first_output": (EXACT, GOOD, HALF),
    "two_static_inputs": (EXACT, GOOD, HALF),
    "scalar_input": (EXACT, NOTHING, HALF),
}
PRECISIONS = ("fp32", "int8", "fp16", "as_is")
PENDING: dict[str, str] = {
    "onlyrelu-int8": "int8 is to be judged",
    "convtranspose-int8": "int8 is to be judged",
    "lstm-fp32": "outputs are to be judged",
    "lstm-int8": "int8 is to be judged",
    "if_only-int8": "int8 is to be judged",
    "bias_add_reshape-int8-openvino": "int8 is to be judged",
    "matmul_bias-int8": "int8 is to be judged",
    "ln_tokens-int8": "int8 is to be judged",
    "two_names-fp32-openvino": "outputs are to be judged",
    "two_names-int8-openvino": "int8 is to be judged",
    "duplicate_names-int8": "int8 is to be judged",
    "string_output-fp32": "outputs are to be judged",
    "string_output-int8": "int8 is to be judged",
    "dotted_dims-int8": "int8 is to be judged",
    "question_marks-int8": "int8 is to be judged",
    "output_is_input-int8": "int8 is to be judged",
    "gather_in_constant-int8": "int8 is to be judged",
    "time_first_output-fp32": "outputs are to be judged",
    "time_first_output-int8": "int8 is to be judged",
}
"""Rows that do not hold yet, as case-precision-engine or case-precision, with what they wait for."""


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


def _parameters() -> list[object]:
    parameters = []
    for name in TABLE:
        for precision, engine in rows_of(name):
            row = f"{name}-{precision}-{engine}"
            reason = PENDING.get(row) or PENDING.get(f"{name}-{precision}")
            marks = [pytest.mark.xfail(reason=reason, strict=False)] if reason else []
            parameters.append(pytest.param(name, precision, engine, id=row, marks=marks))
    return parameters


@pytest.mark.parametrize(("name", "precision", "engine"), _parameters())
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
    rows = {f"{name}-{precision}" for name in TABLE for precision, _ in rows_of(name)}
    rows |= {f"{name}-{'-'.join(row)}" for name in TABLE for row in rows_of(name)}
    assert set(PENDING) <= rows

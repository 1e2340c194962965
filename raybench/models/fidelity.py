"""Fidelity: how close the outputs of a reduced precision are to those of the fp32 graph.

Values are centred per row before they are compared, unless every row is constant. For a softmax
output, log-probabilities are compared, because networks whose logits differ by a common shift are
equivalent. A probability below the smallest number of half precision counts as that number on both
sides: it is the type of the output that makes it 0, not the network (6 % of AlexNet's in fp16 on a
GPU). Agreement of the top class is no measure: random networks answer most inputs with the same
class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    Array = np.ndarray[Any, Any]

CAP_DB = 200.0
"""Value for no difference at all; its negative is for outputs that are not finite."""

_LEAST = 2.0**-24  # smallest number of half precision
_CONSTANT = 1e-10  # share of a constant row's power that is rounding in fp32


@dataclass(frozen=True)
class Fidelity:
    """Similarity to the fp32 outputs.

    Attributes:
        sqnr_db: signal to quantisation noise, at most `CAP_DB`; the zoo has 27 to 40 dB in int8.
        cosine: mean over rows; 1.0 is the same direction.
    """

    sqnr_db: float
    cosine: float


def fidelity(
    reference: Mapping[str, Array], outputs: Mapping[str, Array], softmax_outputs: Collection[str]
) -> Fidelity | None:
    """Return the worst value over all outputs; None if the reference has none to compare.

    Args:
        reference: fp32 outputs, shape (items, ...).
        outputs: the engine's outputs for the same items in the same order; the longer is cut.
        softmax_outputs: names of the outputs that are probabilities over their last axis.

    Raises:
        ValueError: an output is missing, or the shape of an item differs.
    """
    pairs = []
    for name, expected in reference.items():
        if name not in outputs:
            raise ValueError(f"output {name!r} is missing; there are {sorted(outputs)}")
        expected, actual = np.atleast_1d(expected), np.atleast_1d(outputs[name])
        items = min(len(expected), len(actual))
        if expected.shape[1:] != actual.shape[1:] or items == 0:
            raise ValueError(
                f"output {name!r} has shape {actual.shape}, the fp32 graph's {expected.shape}"
            )
        pairs.append(
            _compare(
                _rows(expected[:items], name in softmax_outputs),
                _rows(actual[:items], name in softmax_outputs),
            )
        )
    if not pairs:
        return None
    return Fidelity(min(pair.sqnr_db for pair in pairs), min(pair.cosine for pair in pairs))


def same_floats(reference: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the reference outputs that hold floats in the shape of the others'.

    A length that follows from the values, as that of speech, may differ.
    """
    return {
        name: values
        for name, values in reference.items()
        if values.dtype.kind == "f" and values.shape == outputs[name].shape
    }


def _rows(values: Array, softmax: bool) -> Array:
    """Return float64 values, shape (rows, columns); a single NaN if a value is not finite."""
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        return np.full((1, 1), np.nan)
    rows: Array = wide.reshape(len(wide), -1)
    if softmax:
        rows = np.log(np.maximum(wide, _LEAST)).reshape(-1, wide.shape[-1])
    return rows


def _centred(expected: Array, actual: Array) -> tuple[Array, Array]:
    """Centre the rows of both, unless those expected are constant: their values are all they say."""
    if expected.shape[1] == 1:
        return expected, actual
    rows = expected - expected.mean(axis=1, keepdims=True)
    if float(np.sum(rows**2)) <= _CONSTANT * float(np.sum(expected**2)):
        return expected, actual
    return rows, actual - actual.mean(axis=1, keepdims=True)


def _compare(expected: Array, actual: Array) -> Fidelity:
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return Fidelity(-CAP_DB, 0.0)
    expected, actual = _centred(expected, actual)
    signal, noise = float(np.sum(expected**2)), float(np.sum((expected - actual) ** 2))
    if noise == 0:
        return Fidelity(CAP_DB, 1.0)
    sqnr_db = 10 * np.log10(signal / noise) if signal > 0 else -CAP_DB
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(actual, axis=1)
    dots = np.sum(expected * actual, axis=1)
    cosine = float(np.mean(np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)))
    return Fidelity(float(np.clip(sqnr_db, -CAP_DB, CAP_DB)), cosine)

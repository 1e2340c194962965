"""Fidelity: how near the outputs of a reduced precision stay to those of the fp32 graph.

Compared are values centred per row; of a softmax output, log-probabilities, because two networks
that agree in every logit but a common shift are the same. A probability under the least number of
half precision counts as that number on both sides: what writes it as 0 is the type of the output, not
the network (AlexNet in fp16 on a GPU writes 6 % of them so). Random networks answer most inputs with
the same class, so agreement of the top class would tell nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    Array = np.ndarray[Any, Any]

CAP_DB = 200.0
"""Stands for no difference at all; its negative for outputs that are not finite."""

_LEAST = 2.0**-24  # of half precision


@dataclass(frozen=True)
class Fidelity:
    """Nearness to fp32.

    Attributes:
        sqnr_db: signal to quantisation noise, at most `CAP_DB`; int8 was seen at 22 to 37 dB.
        cosine: mean over rows; 1.0 is the same direction.
    """

    sqnr_db: float
    cosine: float


def fidelity(
    reference: Mapping[str, Array], outputs: Mapping[str, Array], softmax_outputs: Collection[str]
) -> Fidelity | None:
    """The worst over all outputs of the reference; None when it has none to compare.

    Args:
        reference: fp32 outputs, shape (items, ...).
        outputs: the engine's, for the same items in the same order; the longer of the two is cut.
        softmax_outputs: names of the outputs that are probabilities over their last axis.

    Raises:
        ValueError: an output is missing, or the shape of an item differs.
    """
    pairs = []
    for name, wanted in reference.items():
        if name not in outputs:
            raise ValueError(f"output {name!r} is missing; there are {sorted(outputs)}")
        got = outputs[name]
        items = min(len(wanted), len(got))
        if wanted.shape[1:] != got.shape[1:] or items == 0:
            raise ValueError(
                f"output {name!r} has shape {got.shape}, the fp32 graph's {wanted.shape}"
            )
        pairs.append(
            _compare(
                _rows(wanted[:items], name in softmax_outputs),
                _rows(got[:items], name in softmax_outputs),
            )
        )
    if not pairs:
        return None
    return Fidelity(min(pair.sqnr_db for pair in pairs), min(pair.cosine for pair in pairs))


def _rows(values: Array, softmax: bool) -> Array:
    """float64 of shape (rows, columns), each row centred; a single column is left as it is.

    One NaN stands for values of which some are not finite.
    """
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        return np.full((1, 1), np.nan)
    if softmax:
        rows = np.log(np.maximum(wide, _LEAST)).reshape(-1, wide.shape[-1])
    else:
        rows = wide.reshape(len(wide), -1)
    return rows - rows.mean(axis=1, keepdims=True) if rows.shape[1] > 1 else rows


def _compare(wanted: Array, got: Array) -> Fidelity:
    if not (np.isfinite(got).all() and np.isfinite(wanted).all()):
        return Fidelity(-CAP_DB, 0.0)
    signal, noise = float(np.sum(wanted**2)), float(np.sum((wanted - got) ** 2))
    if noise == 0:
        return Fidelity(CAP_DB, 1.0)
    sqnr_db = 10 * np.log10(signal / noise) if signal > 0 else -CAP_DB
    lengths = np.linalg.norm(wanted, axis=1) * np.linalg.norm(got, axis=1)
    dots = np.sum(wanted * got, axis=1)
    cosine = float(np.mean(np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)))
    return Fidelity(float(np.clip(sqnr_db, -CAP_DB, CAP_DB)), cosine)

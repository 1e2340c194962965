"""Synthetic series with a given autocorrelation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def ar1(rng: np.random.Generator, runs: int, n: int, phi: float) -> np.ndarray:
    x = rng.standard_normal((runs, n))
    for k in range(1, n):
        x[:, k] = phi * x[:, k - 1] + math.sqrt(1 - phi * phi) * x[:, k]
    return x

"""A sketch of quantiles: counts of values in buckets that grow by 1 %, of any number of values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROWTH = 1.01
"""Each bucket ends so many times higher than it begins."""
RELATIVE_ERROR = math.sqrt(GROWTH) - 1
"""A quantile is the geometric middle of its bucket, and so at most 0.5 % from a value of that rank."""
LEAST = 1e-6
"""Smaller values count as 0."""
_WIDTH = math.log(GROWTH)
_ZERO = math.floor(math.log(LEAST) / _WIDTH)


class QuantileSketch:
    """Values that are not kept: their number, sum, squares, extremes, and a count for each bucket.

    It takes 8 bytes for each 1 % between the least and the largest value: 7 kB for four powers of
    ten. Two sketches add up to that of all values.

    Attributes:
        n: number of values.
        total: their sum.
        squares: sum of their squares.
        largest: of the values; 0 without any.
    """

    def __init__(self) -> None:
        self.n = 0
        self.total = 0.0
        self.squares = 0.0
        self.largest = 0.0
        self._low = 0
        self._counts = np.zeros(0, np.int64)

    def add(self, values: NDArray[np.float64]) -> None:
        """Count values, none of them negative, shape (n,)."""
        if not len(values):
            return
        self.n += len(values)
        self.total += float(values.sum())
        self.squares += float(values @ values)
        self.largest = max(self.largest, float(values.max()))
        buckets = np.floor(np.log(np.maximum(values, LEAST)) / _WIDTH).astype(np.int64)
        low = int(buckets.min())
        self._add_counts(low, np.bincount(buckets - low))

    def merge(self, other: QuantileSketch) -> None:
        """Count all values of another sketch."""
        self.n += other.n
        self.total += other.total
        self.squares += other.squares
        self.largest = max(self.largest, other.largest)
        self._add_counts(other._low, other._counts)

    def _add_counts(self, low: int, counts: NDArray[np.int64]) -> None:
        if not len(counts):
            return
        if not len(self._counts):
            self._low = low
        begin = min(self._low, low)
        end = max(self._low + len(self._counts), low + len(counts))
        if end - begin > len(self._counts):
            grown = np.zeros(end - begin, np.int64)
            grown[self._low - begin :][: len(self._counts)] = self._counts
            self._low, self._counts = begin, grown
        self._counts[low - self._low :][: len(counts)] += counts

    @property
    def mean(self) -> float | None:
        """The mean; None without a value."""
        return self.total / self.n if self.n else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation; None of fewer than two values."""
        if self.n < 2:
            return None
        return math.sqrt(max(self.squares - self.total**2 / self.n, 0.0) / (self.n - 1))

    def quantile(self, p: float) -> float | None:
        """Return the p-quantile within `RELATIVE_ERROR`; None without a value."""
        if not self.n:
            return None
        rank = min(int(p * self.n), self.n - 1)
        place = int(np.searchsorted(np.cumsum(self._counts), rank, side="right"))
        bucket = self._low + place
        middle = math.exp((bucket + 0.5) * _WIDTH) if bucket > _ZERO else 0.0
        return min(middle, self.largest)

    def buckets(self) -> tuple[list[float], list[int]]:
        """Return the edges of the buckets, one more than these, and the counts."""
        if not self.n:
            return [], []
        edges = np.exp(np.arange(self._low, self._low + len(self._counts) + 1) * _WIDTH)
        return edges.tolist(), self._counts.tolist()

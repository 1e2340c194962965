"""Limits of a point: its time settings converted to numbers of blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raybench.experiment import MeasureSettings

MAX_SCALE = 4.0
"""The blocks and time limits of a slow point grow by at most this factor."""


@dataclass(frozen=True)
class Limits:
    """The time settings of one point, in blocks.

    Attributes:
        settings: as configured.
        scale: factor by which blocks and time limits exceed the configured ones; 1 to 4.
        span_s: length of a block, the spacing of the grid on which workers cut their streams.
        warmup_min: fewest blocks of warm-up.
        warmup_max: most blocks of warm-up.
        measure_min: blocks in the window at the first check.
        measure_max: blocks in the window at the last check.
        check_every: blocks between checks.
    """

    settings: MeasureSettings
    scale: float
    span_s: float
    warmup_min: int
    warmup_max: int
    measure_min: int
    measure_max: int
    check_every: int

    @classmethod
    def of(cls, settings: MeasureSettings, slowest_batch_s: float = 0.0) -> Limits:
        """Return the limits of a point whose slowest worker takes `slowest_batch_s` for a batch.

        A block must hold `block_min_batches`. Where it cannot, blocks and time limits grow together,
        up to 4 times. Beyond that only blocks grow, and fewer of them fit into the time limit.

        Args:
            settings: as configured.
            slowest_batch_s: median batch time of the slowest worker, measured before the stream.
        """
        needed_s = settings.block_min_batches * slowest_batch_s
        scale = min(max(1.0, needed_s / settings.block_s), MAX_SCALE)
        span_s = max(settings.block_s * scale, needed_s)
        batches_s = settings.warmup_min_batches * slowest_batch_s
        least_s = settings.max_s if settings.row_every_s else settings.min_s
        minimum = max(1, _round_up(least_s * scale / span_s))
        return cls(
            settings=settings,
            scale=scale,
            span_s=span_s,
            warmup_min=_round_up(max(settings.warmup_min_s * scale, batches_s) / span_s),
            warmup_max=_round_down(settings.warmup_max_s * scale / span_s),
            measure_min=minimum,
            measure_max=max(minimum, _round_down(settings.max_s * scale / span_s)),
            check_every=max(1, round(settings.look_s * scale / span_s)),
        )

    def target(self, blocks: int) -> float:
        """Return the relative half-width that a check after so many blocks must reach.

        It is the configured target at `measure_max`, and narrower in proportion to sqrt(n) before.
        Stopping as soon as the estimated width is small means stopping when it is underestimated.
        With the same target throughout, the intervals of stopped rows cover less than they claim
        (phi 0.6, block sd 1 %: 93.0 % of nominal 95; with this 94.1 %, simulated). Quiet points
        are unaffected.
        """
        return self.settings.target * math.sqrt(min(1.0, blocks / self.measure_max))

    def next_check(self, blocks: int) -> int | None:
        """Return the window length of the next check after so many blocks; None after the last."""
        if blocks < self.measure_min:
            return self.measure_min
        if blocks >= self.measure_max:
            return None
        checks = (blocks - self.measure_min) // self.check_every + 1
        return min(self.measure_min + checks * self.check_every, self.measure_max)


def _round_up(blocks: float) -> int:
    return math.ceil(blocks - 1e-9)


def _round_down(blocks: float) -> int:
    return math.floor(blocks + 1e-9)

"""What flags and advice are decided from when the window of a trial has ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.measure.stopping import WindowCheck
    from raybench.measure.warmup import WarmUp


@dataclass(frozen=True)
class OutputFindings:
    """The workers of a trial whose outputs are not what they ought to be, by rank.

    Attributes:
        changed: other bits for the same batch after the window than before the warm-up.
        differing: other bits than most workers of the same plan, chip, driver and library; all of
            these where there is no majority.
        nondeterministic: other bits when a batch is run twice in a row; compared no further.
    """

    changed: tuple[int, ...] = ()
    differing: tuple[int, ...] = ()
    nondeterministic: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrialEvidence:
    """Everything that the flags of one trial depend on.

    Attributes:
        warm_up: how the warm-up ended.
        window: the check that ended the window.
        columns: of the row in `trials`; a missing column is unknown.
        device_kind: "gpu" or "cpu". Only a core is disturbed by load on its own CPUs.
        trials: number of trials in the experiment; None if unknown.
        uneven: the workers' devices or software differ.
        reference_finite: False if the outputs could not be compared with those of the fp32 graph
            because its own are not finite.
        places: host and device of each worker, for people; empty if unknown.
        overloaded: whether the backlog of an open loop grew.
        outputs: of the workers, bit for bit.
    """

    warm_up: WarmUp
    window: WindowCheck
    columns: Mapping[str, Any] = field(default_factory=dict)
    device_kind: str = "cpu"
    trials: int | None = None
    uneven: bool = False
    reference_finite: bool = True
    places: Sequence[str] = ()
    overloaded: bool = False
    outputs: OutputFindings = OutputFindings()

    def of_compute(self, *names: str) -> float | None:
        """Return the longest of these times over the compute time; None without a device clock."""
        compute_ms = self.columns.get("compute_ms_median")
        times = [time for name in names if (time := self.columns.get(name)) is not None]
        return max(times) / compute_ms if times and compute_ms else None

    @property
    def harness_frac(self) -> float | None:
        """Time of the measuring loop over the time of a batch; None if unknown."""
        cost_us = self.columns.get("harness_us_per_batch")
        rate = self.columns.get("items_per_s_per_worker")
        if cost_us is None or not rate:
            return None
        rate /= self.columns.get("instances") or 1
        batches_per_s = rate * self.columns["batches"] / self.columns["items"]
        return float(cost_us * 1e-6 * batches_per_s)

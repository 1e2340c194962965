"""Thresholds of the flags, and what raises those that need more than one line to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.stats.intervals import percentile_least

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.measure.evidence import TrialEvidence

THROTTLED_FRAC = 0.01
CPU_THROTTLED_FRAC = 0.01
"""Chosen here: as much as other flags allow of a window that is not the device's own."""
CLOCK_LOW = 0.75
"""Share of the highest clock below which a device counts as slow (nvbench's threshold)."""
CLOCK_VARIED = 0.02
"""Chosen here: a board at its power limit dithers between neighbouring clocks, which are 1 % apart;
a standard deviation of twice that is more than dither."""
GAP_S = 3.0
ENERGY_CHECK = 0.05
"""Longest time without readings, and tolerance between counter and sampled power, of InferenceX."""
HARNESS_COST = 0.01
FOREIGN_LOAD = 0.05
STEAL = 0.01
"""Chosen here: of the worker's own CPUs. The raylet and its agents take 1 to 3 % of a core on a
machine without a core to spare, so less than 5 % is no other user."""
NODE_LOAD = 0.1
"""Chosen here: of all CPUs of a node. The driver, the raylet and its agents stay below 5 % of a node
with two CPUs. Other work shares caches, memory and boost clocks with the workers."""
CLOCK_SKEW = 5e-4
"""The fastest that time synchronisation may adjust a clock (adjtimex(2): 500 ppm). Beyond it, rates
taken by that clock are wrong by at least a tenth of the target of preset standard."""
HOST_BOUND_FRAC = 0.05
UNDERFED = 0.05
"""As for the host: below it a device that is fed is the limit itself."""
ENQUEUE_BOUND = 0.8
"""Median time to submit a batch over the median time to compute it; the threshold of trtexec."""
COMPUTE_VARIED = 0.025
"""Standard deviation of the compute time over its mean; also trtexec's threshold."""
LATE_FRAC = 0.01
"""Chosen here: fewer late batches do not reach the 99th percentile."""
OFFERED_OFF = 0.01
IMBALANCE = 0.05
"""Chosen here: workers of one point that differ by more are not the same kind of device or load."""
QUANTISED_LEAST = 0.5
"""Chosen here: below it most of the work is still that of fp32."""
FIDELITY_LEAST_DB = 10.0
"""Chosen here: an error of a tenth of the signal's power. No working precision is as far off."""
FIDELITY_LEAST_FP32_DB = 40.0
"""Chosen here: two engines that compute in fp32 were 47 to 200 dB apart on 13 networks of other people."""


def above(
    column: str, threshold: float, *, cores_only: bool = False
) -> Callable[[TrialEvidence], bool]:
    """Return a predicate: a column exceeds a threshold."""

    def raised(evidence: TrialEvidence) -> bool:
        if cores_only and evidence.device_kind != "cpu":
            return False
        return exceeds(evidence.columns.get(column), threshold)

    return raised


def as_fast_as_it_goes(evidence: TrialEvidence) -> bool:
    """Return whether the workers' rates are their own: in closed loop, and where arrivals were too many.

    Otherwise a worker serves what comes to it, and a free one takes the next items of a shared queue.
    """
    return evidence.columns.get("offered_items_per_s") is None or evidence.overloaded


def imbalanced(evidence: TrialEvidence) -> bool:
    """Return whether the workers' own rates differ."""
    return as_fast_as_it_goes(evidence) and exceeds(evidence.columns.get("imbalance"), IMBALANCE)


def instances_uneven(evidence: TrialEvidence) -> bool:
    """Return whether instances on a device differ in their own rates."""
    ratio = evidence.columns.get("instance_min_max_ratio", 1.0)
    return as_fast_as_it_goes(evidence) and exceeds(1 - ratio, IMBALANCE)


def wrong_outputs(evidence: TrialEvidence) -> bool:
    """Return whether the outputs are far from those of the fp32 graph."""
    fidelity_db = evidence.columns.get("fidelity_sqnr_db")
    exact = evidence.columns.get("precision") == "fp32"
    least_db = FIDELITY_LEAST_FP32_DB if exact else FIDELITY_LEAST_DB
    return fidelity_db is not None and fidelity_db < least_db


def in_window(name: str) -> Callable[[TrialEvidence], bool]:
    """Return a predicate: the last check of the window raised the flag."""
    return lambda evidence: name in evidence.window.flags


def exceeds(value: float | None, threshold: float) -> bool:
    """Return whether a value is known and above a threshold."""
    return value is not None and value > threshold


def few_batches(evidence: TrialEvidence) -> bool:
    """Return whether the window has too few batches for its 99th percentile."""
    latencies = evidence.columns.get("latency_n")
    return latencies is not None and latencies < percentile_least(0.99)


def offered_off(evidence: TrialEvidence) -> bool:
    """Return whether the arrivals missed the rate that was asked for."""
    asked = evidence.columns.get("offered_items_per_s")
    arrived = evidence.columns.get("arrived_items_per_s")
    return bool(asked) and arrived is not None and abs(arrived / asked - 1) > OFFERED_OFF


def clock_low(evidence: TrialEvidence) -> bool:
    """Return whether the device ran far below its highest clock."""
    share = evidence.columns.get("clock_frac")
    return share is not None and share < CLOCK_LOW


def copy_bound(evidence: TrialEvidence) -> bool:
    """Return whether a copy takes as long as the compute."""
    copies = evidence.of_compute("h2d_ms_median", "d2h_ms_median")
    return copies is not None and copies >= 1


def partly_quantised(evidence: TrialEvidence) -> bool:
    """Return whether an int8 graph does little of its work in 8 bits."""
    frac = evidence.columns.get("quantised_macs_frac")
    in_int8 = any(op.endswith(":int8") for op in evidence.columns.get("reduced_ops") or ())
    return in_int8 and frac is not None and frac < QUANTISED_LEAST


def host_bound(evidence: TrialEvidence) -> bool:
    """A device that waits for a longer copy is idle, too, and no faster host would help it."""
    idle = exceeds(evidence.columns.get("host_idle_frac"), HOST_BOUND_FRAC)
    return idle and not copy_bound(evidence)

"""Flags of a trial, its verdict and its advice, from one table with a rule for each flag."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from raybench.measure import advice as sentences
from raybench.measure import stalls
from raybench.stats.intervals import percentile_least

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from raybench.measure.evidence import TrialEvidence
    from raybench.measure.limits import Limits

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
ENQUEUE_BOUND = 0.8
"""Median time to submit a batch over the median time to compute it; the threshold of trtexec."""
COMPUTE_VARIED = 0.025
"""Standard deviation of the compute time over its mean; also trtexec's threshold."""
IMBALANCE = 0.05
"""Chosen here: workers of one point that differ by more are not the same kind of device or load."""
QUANTISED_LEAST = 0.5
"""Chosen here: below it most of the work is still that of fp32."""
FIDELITY_LEAST_DB = 10.0
"""Chosen here: an error of a tenth of the signal's power. No working precision is as far off."""
FIDELITY_LEAST_FP32_DB = 40.0
"""Chosen here: two engines that compute in fp32 were 47 to 200 dB apart on 13 networks of other people."""

OF_OUTPUTS = frozenset({"wrong_outputs", "reference_not_finite"})
"""Flags about what was computed: measuring again does not remove them."""


@dataclass(frozen=True)
class FlagRule:
    """One flag: its name, its effect on the verdict and when it is raised.

    Attributes:
        name: as stored in rows.
        group: "blocking" and "target_missed" make a row unstable; "information" does not touch the
            verdict.
        meaning: one line.
        raised: whether the evidence raises the flag; unknown values raise none.
        advice: sentence that says what to do; None for "information".
    """

    name: str
    group: Literal["blocking", "target_missed", "information"]
    meaning: str
    raised: Callable[[TrialEvidence], bool]
    advice: Callable[[TrialEvidence, Limits], str] | None = None


def _above(
    column: str, threshold: float, *, cores_only: bool = False
) -> Callable[[TrialEvidence], bool]:
    """Return a predicate: a column exceeds a threshold."""

    def raised(evidence: TrialEvidence) -> bool:
        if cores_only and evidence.device_kind != "cpu":
            return False
        return _exceeds(evidence.columns.get(column), threshold)

    return raised


def _wrong_outputs(evidence: TrialEvidence) -> bool:
    fidelity_db = evidence.columns.get("fidelity_sqnr_db")
    exact = evidence.columns.get("precision") == "fp32"
    least_db = FIDELITY_LEAST_FP32_DB if exact else FIDELITY_LEAST_DB
    return fidelity_db is not None and fidelity_db < least_db


def _in_window(name: str) -> Callable[[TrialEvidence], bool]:
    """Return a predicate: the last check of the window raised the flag."""
    return lambda evidence: name in evidence.window.flags


def _exceeds(value: float | None, threshold: float) -> bool:
    return value is not None and value > threshold


def _few_batches(evidence: TrialEvidence) -> bool:
    latencies = evidence.columns.get("latency_n")
    return latencies is not None and latencies < percentile_least(0.99)


def _clock_low(evidence: TrialEvidence) -> bool:
    share = evidence.columns.get("clock_frac")
    return share is not None and share < CLOCK_LOW


def _copy_bound(evidence: TrialEvidence) -> bool:
    copies = evidence.of_compute("h2d_ms_median", "d2h_ms_median")
    return copies is not None and copies >= 1


def _partly_quantised(evidence: TrialEvidence) -> bool:
    frac = evidence.columns.get("quantised_macs_frac")
    in_int8 = any(op.endswith(":int8") for op in evidence.columns.get("reduced_ops") or ())
    return in_int8 and frac is not None and frac < QUANTISED_LEAST


def _host_bound(evidence: TrialEvidence) -> bool:
    """A device that waits for a longer copy is idle, too, and no faster host would help it."""
    idle = _exceeds(evidence.columns.get("host_idle_frac"), HOST_BOUND_FRAC)
    return idle and not _copy_bound(evidence)


_RULES = (
    FlagRule(
        "cpu_throttled",
        "blocking",
        "A CPU quota held the workers back for over 1 % of the window.",
        _above("cpu_throttled_frac", CPU_THROTTLED_FRAC),
        sentences.cpu_throttled,
    ),
    FlagRule(
        "stalled",
        "blocking",
        "A worker completed no batch for 5 batches' length and 20 ms or more.",
        _above("stalls", 0),
        sentences.stalled,
    ),
    FlagRule(
        "warmup_not_converged",
        "blocking",
        "Throughput was still changing at the end of the longest warm-up.",
        lambda evidence: evidence.warm_up.state != "agreed",
        sentences.warmup_not_converged,
    ),
    FlagRule(
        "step",
        "blocking",
        "Throughput shifted by 1 % or more inside the window.",
        _in_window("step"),
        sentences.step,
    ),
    FlagRule(
        "drift",
        "blocking",
        "Throughput drifted by 0.5 % or more over the window.",
        _in_window("drift"),
        sentences.drift,
    ),
    FlagRule(
        "throttled_thermal",
        "blocking",
        "Heat held the device back in over 1 % of samples.",
        _above("throttle_thermal_frac", THROTTLED_FRAC),
        sentences.throttled_thermal,
    ),
    FlagRule(
        "throttled_hw",
        "blocking",
        "Hardware or power brake slowed the device in over 1 % of samples.",
        _above("throttle_hw_frac", THROTTLED_FRAC),
        sentences.throttled_hw,
    ),
    FlagRule(
        "foreign_process",
        "blocking",
        "Another process used the device.",
        _above("foreign_processes", 0),
        sentences.foreign_process,
    ),
    FlagRule(
        "foreign_load",
        "blocking",
        "Other processes used over 5 % of the workers' own cores (CPU devices).",
        _above("foreign_load_frac", FOREIGN_LOAD, cores_only=True),
        sentences.foreign_load,
    ),
    FlagRule(
        "clock_skew",
        "blocking",
        "A host's clock ran over 500 ppm faster or slower than the driver's.",
        _above("clock_skew", CLOCK_SKEW),
        sentences.clock_skew,
    ),
    FlagRule(
        "wrong_outputs",
        "blocking",
        "The outputs have under 10 dB of fidelity to those of fp32; in fp32 itself, under 40 dB.",
        _wrong_outputs,
        sentences.wrong_outputs,
    ),
    FlagRule(
        "reference_not_finite",
        "blocking",
        "The fp32 graph's own outputs are not finite for these inputs.",
        lambda evidence: not evidence.reference_finite,
        sentences.reference_not_finite,
    ),
    FlagRule(
        "wide_ci",
        "target_missed",
        "The confidence interval is wider than the target.",
        _in_window("wide_ci"),
        sentences.wide_ci,
    ),
    FlagRule(
        "few_neff",
        "target_missed",
        "The window is worth too few independent blocks.",
        _in_window("few_neff"),
        sentences.few_neff,
    ),
    FlagRule(
        "few_batches",
        "information",
        "There were too few batches for the 99th percentile.",
        _few_batches,
    ),
    FlagRule(
        "throttled_power",
        "information",
        "The power limit held the clock in over 1 % of samples; often normal.",
        _above("throttle_power_frac", THROTTLED_FRAC),
    ),
    FlagRule(
        "clock_low",
        "information",
        "The mean clock was below 75 % of the highest.",
        _clock_low,
    ),
    FlagRule(
        "clock_varied",
        "information",
        "The device clock's standard deviation was over 2 % of its mean.",
        _above("clock_cv", CLOCK_VARIED),
    ),
    FlagRule(
        "node_load",
        "information",
        "Other processes used over 10 % of a node's CPUs (CPU devices).",
        _above("node_load_frac", NODE_LOAD, cores_only=True),
    ),
    FlagRule(
        "steal",
        "information",
        "Other virtual machines took over 1 % of the workers' cores.",
        _above("steal_frac", STEAL, cores_only=True),
    ),
    FlagRule(
        "uneven",
        "information",
        "Workers differ in their devices or in versions of libraries or drivers.",
        lambda evidence: evidence.uneven,
    ),
    FlagRule(
        "lowered_priority",
        "information",
        "The workers yield to other processes (niceness).",
        _above("nice", 0),
    ),
    FlagRule(
        "temp_rising",
        "information",
        "The device was still warming when measuring began.",
        lambda evidence: evidence.warm_up.settled is False,
    ),
    FlagRule(
        "imbalance",
        "information",
        "The fastest worker was over 5 % faster than the slowest.",
        _above("imbalance", IMBALANCE),
    ),
    FlagRule(
        "host_bound",
        "information",
        "The device waited over 5 % of the time, and not for copies.",
        _host_bound,
    ),
    FlagRule(
        "enqueue_bound",
        "information",
        "Submitting a batch took over 80 % of computing it.",
        lambda evidence: _exceeds(evidence.of_compute("enqueue_ms_median"), ENQUEUE_BOUND),
    ),
    FlagRule(
        "copy_bound",
        "information",
        "Copying a batch in or out took as long as computing it.",
        _copy_bound,
    ),
    FlagRule(
        "compute_varied",
        "information",
        "The time to compute a batch varied by over 2.5 %.",
        _above("compute_cov", COMPUTE_VARIED),
    ),
    FlagRule(
        "ecc_error",
        "information",
        "The device reported memory errors.",
        _above("ecc_errors", 0),
    ),
    FlagRule(
        "telemetry_gap",
        "information",
        "Device readings are missing for over 3 s of the window.",
        _above("telemetry_gap_s", GAP_S),
    ),
    FlagRule(
        "energy_mismatch",
        "information",
        "Energy counter and sampled power differ by over 5 %.",
        lambda evidence: abs(evidence.columns.get("energy_check_rel") or 0) > ENERGY_CHECK,
    ),
    FlagRule(
        "harness_cost",
        "information",
        "The measuring loop takes over 1 % of a batch's time.",
        lambda evidence: _exceeds(evidence.harness_frac, HARNESS_COST),
    ),
    FlagRule(
        "partly_quantised",
        "information",
        "Under half of the multiply-accumulates of an int8 graph are computed in 8 bits.",
        _partly_quantised,
    ),
    FlagRule(
        "outliers",
        "information",
        "Some blocks lie far from the rest; they were kept.",
        _above("outlier_blocks", 0),
    ),
    FlagRule(
        "long_batches",
        "information",
        "Batches of 5 times the usual length and 20 ms or more recur, and cost over 1 % of the time.",
        lambda evidence: stalls.long_batches_recur(evidence.columns),
    ),
    FlagRule(
        "precision_only",
        "information",
        "One trial says nothing about reproducibility.",
        lambda evidence: evidence.trials == 1,
    ),
)

FLAGS: Final[Mapping[str, FlagRule]] = MappingProxyType({rule.name: rule for rule in _RULES})
"""Every flag that a row may carry, by name, the gravest first."""


def raised_flags(evidence: TrialEvidence) -> tuple[str, ...]:
    """Return the names of the flags that the evidence raises, in the order of `FLAGS`."""
    return tuple(rule.name for rule in FLAGS.values() if rule.raised(evidence))


def verdict(flags: Collection[str], best: str = "stable") -> str:
    """Return the verdict on a row that has a number: "stable", "unstable" or "unverified".

    Args:
        flags: of the row, each a name in `FLAGS`.
        best: the best verdict of the preset (`MeasureSettings.verdict_best`).
    """
    unstable = [flag for flag in flags if FLAGS[flag].group != "information"]
    return "unstable" if unstable else best


def advice(flags: Collection[str], evidence: TrialEvidence, limits: Limits) -> str | None:
    """Return one sentence on what to do about a row that is not stable; None for a stable row.

    The sentence addresses only the gravest flag, the first in the order of `FLAGS`.
    """
    if verdict(flags, limits.settings.verdict_best) == "stable":
        return None
    for rule in FLAGS.values():
        if rule.name in flags and rule.advice is not None:
            return rule.advice(evidence, limits)
    return "This preset shows the tool and vouches for nothing: use preset=standard."

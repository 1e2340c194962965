"""A rule for each flag: its name, its effect on the verdict and when it is raised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from raybench.measure import advice as sentences
from raybench.measure import flag_conditions as conditions
from raybench.measure import stalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.measure.evidence import TrialEvidence
    from raybench.measure.limits import Limits


@dataclass(frozen=True)
class FlagRule:
    """One flag: its name, its effect on the verdict and when it is raised.

    Attributes:
        name: as stored in rows.
        group: "blocking" and "target_missed" make a row unstable; "information" does not touch the
            verdict.
        meaning: one line.
        raised: whether the evidence raises the flag; unknown values raise none.
        advice: sentence that says what to do; None where there is nothing to do.
    """

    name: str
    group: Literal["blocking", "target_missed", "information"]
    meaning: str
    raised: Callable[[TrialEvidence], bool]
    advice: Callable[[TrialEvidence, Limits], str] | None = None


RULES = (
    FlagRule(
        "overloaded",
        "blocking",
        "Open loop: more items arrived than the workers could serve, and the backlog grew.",
        lambda evidence: evidence.overloaded,
        sentences.overloaded,
    ),
    FlagRule(
        "cpu_throttled",
        "blocking",
        "A CPU quota held the workers back for over 1 % of the window.",
        conditions.above("cpu_throttled_frac", conditions.CPU_THROTTLED_FRAC),
        sentences.cpu_throttled,
    ),
    FlagRule(
        "stalled",
        "blocking",
        "A worker completed no batch for 5 batches' length and 20 ms or more.",
        conditions.above("stalls", 0),
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
        conditions.in_window("step"),
        sentences.step,
    ),
    FlagRule(
        "drift",
        "blocking",
        "Throughput drifted by 0.5 % or more over the window.",
        conditions.in_window("drift"),
        sentences.drift,
    ),
    FlagRule(
        "throttled_thermal",
        "blocking",
        "Heat held the device back in over 1 % of samples.",
        conditions.above("throttle_thermal_frac", conditions.THROTTLED_FRAC),
        sentences.throttled_thermal,
    ),
    FlagRule(
        "throttled_hw",
        "blocking",
        "Hardware or power brake slowed the device in over 1 % of samples.",
        conditions.above("throttle_hw_frac", conditions.THROTTLED_FRAC),
        sentences.throttled_hw,
    ),
    FlagRule(
        "foreign_process",
        "blocking",
        "Another process used the device.",
        conditions.above("foreign_processes", 0),
        sentences.foreign_process,
    ),
    FlagRule(
        "foreign_load",
        "blocking",
        "Other processes used over 5 % of the workers' own cores (CPU devices).",
        conditions.above("foreign_load_frac", conditions.FOREIGN_LOAD, cores_only=True),
        sentences.foreign_load,
    ),
    FlagRule(
        "xid_error",
        "blocking",
        "The driver reported an error of the device (XID).",
        conditions.above("xid_errors", 0),
        sentences.xid_error,
    ),
    FlagRule(
        "rows_remapped",
        "blocking",
        "Memory of the device failed: rows of it were replaced.",
        conditions.above("remapped_rows", 0),
        sentences.rows_remapped,
    ),
    FlagRule(
        "outputs_changed",
        "blocking",
        "A worker computed other bits for the same batch after the window than before the warm-up.",
        lambda evidence: bool(evidence.outputs.changed),
        sentences.outputs_changed,
    ),
    FlagRule(
        "clock_skew",
        "blocking",
        "A host's clock ran over 500 ppm faster or slower than the driver's.",
        conditions.above("clock_skew", conditions.CLOCK_SKEW),
        sentences.clock_skew,
    ),
    FlagRule(
        "wrong_outputs",
        "blocking",
        "The outputs have under 10 dB of fidelity to those of fp32; in fp32 itself, under 40 dB.",
        conditions.wrong_outputs,
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
        conditions.in_window("wide_ci"),
        sentences.wide_ci,
    ),
    FlagRule(
        "few_neff",
        "target_missed",
        "The window is worth too few independent blocks.",
        conditions.in_window("few_neff"),
        sentences.few_neff,
    ),
    FlagRule(
        "late_arrivals",
        "information",
        "Open loop: over 1 % of the batches were submitted over 0.1 ms later than they could be.",
        conditions.above("late_arrivals_frac", conditions.LATE_FRAC),
        sentences.late_arrivals,
    ),
    FlagRule(
        "offered_off",
        "information",
        "Open loop: the rate at which items arrived was over 1 % off the rate asked for.",
        conditions.offered_off,
        sentences.offered_off,
    ),
    FlagRule(
        "few_batches",
        "information",
        "There were too few batches for the 99th percentile.",
        conditions.few_batches,
    ),
    FlagRule(
        "throttled_power",
        "information",
        "The power limit held the clock in over 1 % of samples; often normal.",
        conditions.above("throttle_power_frac", conditions.THROTTLED_FRAC),
    ),
    FlagRule(
        "clock_low",
        "information",
        "The mean clock was below 75 % of the highest.",
        conditions.clock_low,
    ),
    FlagRule(
        "clock_varied",
        "information",
        "The device clock's standard deviation was over 2 % of its mean.",
        conditions.above("clock_cv", conditions.CLOCK_VARIED),
    ),
    FlagRule(
        "node_load",
        "information",
        "Other processes used over 10 % of a node's CPUs (CPU devices).",
        conditions.above("node_load_frac", conditions.NODE_LOAD, cores_only=True),
    ),
    FlagRule(
        "steal",
        "information",
        "Other virtual machines took over 1 % of the workers' cores.",
        conditions.above("steal_frac", conditions.STEAL, cores_only=True),
    ),
    FlagRule(
        "uneven",
        "information",
        "Workers differ in their devices or in versions of libraries or drivers.",
        lambda evidence: evidence.uneven,
    ),
    FlagRule(
        "outputs_differ",
        "information",
        "Workers of one plan, chip, driver and library computed other bits for the same batch.",
        lambda evidence: bool(evidence.outputs.differing),
        sentences.outputs_differ,
    ),
    FlagRule(
        "nondeterministic",
        "information",
        "The engine computed other bits when the same batch was run twice in a row; it is not compared.",
        lambda evidence: bool(evidence.outputs.nondeterministic),
    ),
    FlagRule(
        "lowered_priority",
        "information",
        "The workers yield to other processes (niceness).",
        conditions.above("nice", 0),
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
        "The fastest device was over 5 % faster than the slowest.",
        conditions.imbalanced,
    ),
    FlagRule(
        "instances_uneven",
        "information",
        "An instance was over 5 % faster than another on the same device.",
        conditions.instances_uneven,
        sentences.instances_uneven,
    ),
    FlagRule(
        "time_sliced",
        "information",
        "Instances on a GPU took turns: CUDA's Multi-Process Service was off.",
        lambda evidence: (
            evidence.columns.get("mps") is False and evidence.columns.get("instances", 1) > 1
        ),
        sentences.time_sliced,
    ),
    FlagRule(
        "host_bound",
        "information",
        "The device waited over 5 % of the time, and not for copies.",
        conditions.host_bound,
    ),
    FlagRule(
        "underfed",
        "information",
        "The device was fed by too few cores: it waited for input over 5 % of the time.",
        conditions.above("input_wait_frac", conditions.UNDERFED),
        sentences.underfed,
    ),
    FlagRule(
        "enqueue_bound",
        "information",
        "Submitting a batch took over 80 % of computing it.",
        lambda evidence: conditions.exceeds(
            evidence.of_compute("enqueue_ms_median"), conditions.ENQUEUE_BOUND
        ),
    ),
    FlagRule(
        "copy_bound",
        "information",
        "Copying a batch in or out took as long as computing it.",
        conditions.copy_bound,
    ),
    FlagRule(
        "compute_varied",
        "information",
        "The time to compute a batch varied by over 2.5 %.",
        conditions.above("compute_cov", conditions.COMPUTE_VARIED),
    ),
    FlagRule(
        "ecc_error",
        "information",
        "The device reported memory errors.",
        conditions.above("ecc_errors", 0),
        sentences.ecc_error,
    ),
    FlagRule(
        "ecc_corrected",
        "information",
        "The device corrected memory errors.",
        conditions.above("ecc_corrected", 0),
    ),
    FlagRule(
        "row_remap_pending",
        "information",
        "Rows of device memory wait for a reset to be replaced, or cannot be.",
        lambda evidence: bool(evidence.columns.get("row_remap_pending")),
        sentences.row_remap_pending,
    ),
    FlagRule(
        "telemetry_gap",
        "information",
        "Device readings are missing for over 3 s of the window.",
        conditions.above("telemetry_gap_s", conditions.GAP_S),
    ),
    FlagRule(
        "energy_mismatch",
        "information",
        "Energy counter and sampled power differ by over 5 %.",
        lambda evidence: (
            abs(evidence.columns.get("energy_check_rel") or 0) > conditions.ENERGY_CHECK
        ),
    ),
    FlagRule(
        "harness_cost",
        "information",
        "The measuring loop takes over 1 % of a batch's time.",
        lambda evidence: conditions.exceeds(evidence.harness_frac, conditions.HARNESS_COST),
    ),
    FlagRule(
        "partly_quantised",
        "information",
        "Under half of the multiply-accumulates of an int8 graph are computed in 8 bits.",
        conditions.partly_quantised,
    ),
    FlagRule(
        "outliers",
        "information",
        "Some blocks lie far from the rest; they were kept.",
        conditions.above("outlier_blocks", 0),
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
"""Every rule, that of the gravest flag first."""

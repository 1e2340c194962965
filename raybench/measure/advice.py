"""Advice for each flag that something can be done about: one sentence that says what to do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from raybench.stats.intervals import NBM_BATCHES
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.measure.evidence import TrialEvidence
    from raybench.measure.limits import Limits

WIDE = 0.3
"""An interval with a half-width above this is not symmetric in percent; it is a factor."""
NOTABLE = 0.05
"""Share of the workers' cores that others must have had to be named as the cause of a stall."""
SHARED_S = 0.5
"""A core that others share is away for less than this at a time; a longer stall has another cause."""
OUT_OF_REACH = 20
"""A measurement that would take so many times longer is not advised."""


def overloaded(evidence: TrialEvidence, _limits: Limits) -> str:
    """Name the rate that was offered and the one that was served."""
    asked, served = (evidence.columns.get(f"{name}items_per_s") for name in ("offered_", ""))
    rates = "" if asked is None else f" {asked:,.6g} items/s were offered and {served:,.6g} served:"
    return (
        f"The backlog grew, so that latencies say only how long one looked.{rates} offer less, or use "
        "more workers."
    )


def late_arrivals(evidence: TrialEvidence, _limits: Limits) -> str:
    """Name the share of late batches and how to have the loop woken in time."""
    share = evidence.columns.get("late_arrivals_frac") or 0.0
    return (
        f"{share:.1%} of the batches were submitted over 0.1 ms late, which is in their latency: leave "
        "a core to the system (cluster.cpus=N) and end other work, if this is not to count."
    )


def offered_off(evidence: TrialEvidence, limits: Limits) -> str:
    """Name both rates, and how random arrivals come closer to theirs."""
    asked = evidence.columns.get("offered_items_per_s") or 0.0
    arrived = evidence.columns.get("arrived_items_per_s") or 0.0
    longer = math.ceil(2 * max(limits.settings.max_s, 1.0))
    return (
        f"{arrived:,.6g} items/s arrived in the window for {asked:,.6g} asked for: measure longer "
        f"(measure.min_s={longer} measure.max_s={longer}) or use load=constant({asked:.6g})."
    )


def cpu_throttled(evidence: TrialEvidence, _limits: Limits) -> str:
    """Name the quota, for how long it held the workers back, and how to get by with it or raise it."""
    quota, share = (
        evidence.columns.get(f"cpu_{name}") for name in ("quota_cores", "throttled_frac")
    )
    which = "A CPU quota" if quota is None else f"A CPU quota of {quota:g} cores"
    part = "part" if share is None else f"{share:.0%}"
    fewer = "" if quota is None or quota < 2 else " or use fewer of its cores (cluster.cpus=N)"
    return (
        f"{which} held the workers back for {part} of the window: raise it (docker run --cpus, "
        f"limits.cpu of a pod, CPUQuota= of a service){fewer}, and run again."
    )


def stalled(evidence: TrialEvidence, _limits: Limits) -> str:
    """Name the longest stall, the rate with and without it, and the cause where readings show one."""
    return f"{_longest_stall(evidence)}{_both_rates(evidence.columns)}. {_cause(evidence)}"


def _cause(evidence: TrialEvidence) -> str:
    """Return what the readings beside the stream say of the cause, and what to do about it."""
    others, stolen = (
        evidence.columns.get(f"{name}_frac") or 0.0 for name in ("foreign_load", "steal")
    )
    brief = (evidence.columns.get("longest_stall_s") or 0.0) < SHARED_S
    if brief and evidence.device_kind == "cpu" and max(others, stolen) >= NOTABLE:
        who = "other virtual machines took" if stolen > others else "other processes used"
        return (
            f"In the window {who} {max(others, stolen):.0%} of the workers' own cores: end that work, "
            "or leave a core to it (cluster.cpus=N), and run again."
        )
    return (
        "Look for what stopped the process or its machine then (a suspended or moved virtual machine, "
        "swapping, other work), and run again."
    )


def _longest_stall(evidence: TrialEvidence) -> str:
    columns = evidence.columns
    length_s, at_s = columns.get("longest_stall_s"), columns.get("longest_stall_at_s")
    if length_s is None or at_s is None:
        return "A worker completed no batch for some time"
    rank, count = columns.get("longest_stall_worker") or 0, columns.get("stalls") or 1
    place = f" on {evidence.places[rank]}" if rank < len(evidence.places) else ""
    others = f"; the longest of {count} stalls" if count > 1 else ""
    when = f"at {at_s:.0f} s of the window" if at_s >= 0 else "when the window began"
    return f"No batch for {_length(length_s)} {when} (worker {rank}{place}{others})"


def _both_rates(columns: Mapping[str, Any]) -> str:
    rate, without = columns.get("items_per_s"), columns.get("items_per_s_without_stalls")
    if rate is None or without is None:
        return ""
    return f": {rate:,.1f} items/s with the time of stalls, {without:,.1f} without"


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.9995 else f"{seconds * 1e3:.0f} ms"


def warmup_not_converged(_evidence: TrialEvidence, limits: Limits) -> str:
    """Suggest a longer warm-up."""
    longer = 2 * limits.settings.warmup_max_s
    return (
        f"Throughput had not settled after {limits.settings.warmup_max_s * limits.scale:g} s: "
        f"allow a longer warm-up (measure.warmup_max_s={longer:g}) or look for other load."
    )


def step(evidence: TrialEvidence, limits: Limits) -> str:
    """Name the size and the time of a level shift."""
    shift, window = evidence.window.step, evidence.window
    mean, share = window.interval.mean, shift.index / window.blocks
    before = mean * (1 - shift.relative * (1 - share))
    after = mean * (1 + shift.relative * share)
    return (
        f"Throughput went from {before:,.1f} to {after:,.1f} items/s after "
        f"{shift.index * limits.span_s:.0f} s of the window: look for throttling or other load at "
        "that time and run again."
    )


def drift(evidence: TrialEvidence, limits: Limits) -> str:
    """Name the size of a drift and suggest settings for a longer warm-up."""
    longer = 2 * limits.settings.warmup_max_s
    return (
        f"Throughput drifted by {evidence.window.drift.relative:+.1%} over the window: warm up "
        f"longer (measure.warmup_min_s={limits.settings.warmup_max_s:g} "
        f"measure.warmup_max_s={longer:g}) or cool the device better."
    )


def throttled_thermal(evidence: TrialEvidence, _limits: Limits) -> str:
    """Suggest better cooling or a lower power limit."""
    return (
        f"Heat held the device back{_samples(evidence.columns.get('throttle_thermal_frac'))}: "
        "cool it better or lower its power limit."
    )


def throttled_hw(evidence: TrialEvidence, _limits: Limits) -> str:
    """Suggest checking the hardware."""
    return (
        f"Hardware slowed the device{_samples(evidence.columns.get('throttle_hw_frac'))}: "
        "check its power supply, cables and cooling."
    )


def _samples(fraction: float | None) -> str:
    return "" if fraction is None else f" in {fraction:.0%} of samples"


def foreign_process(_evidence: TrialEvidence, _limits: Limits) -> str:
    """Suggest exclusive use of the device."""
    return "Another process used the device: end it or take the device for yourself, and run again."


def foreign_load(evidence: TrialEvidence, _limits: Limits) -> str:
    """Name the share of the cores that others used."""
    share = evidence.columns.get("foreign_load_frac")
    return (
        f"Others used {'part' if share is None else f'{share:.0%}'} of the workers' own cores: end "
        "the other work, or leave a core to it (cluster.cpus=N), and run again."
    )


def xid_error(evidence: TrialEvidence, _limits: Limits) -> str:
    """Name the codes, which NVIDIA explains."""
    codes = ", ".join(map(str, evidence.columns.get("xid_codes") or ()))
    return (
        f"The driver reported an error of the device{f' (XID {codes})' if codes else ''}: look the "
        "code up in NVIDIA's list of XID errors and the kernel's log (dmesg), and run again on a "
        "device without errors."
    )


def rows_remapped(evidence: TrialEvidence, _limits: Limits) -> str:
    """Suggest a reset of the device."""
    rows = counted(evidence.columns.get("remapped_rows") or 1, "row")
    return (
        f"Memory of the device failed while it was measured and {rows} of it had to be replaced: "
        "reset it (nvidia-smi --gpu-reset), run again, and have it replaced if more rows follow."
    )


def ecc_error(_evidence: TrialEvidence, _limits: Limits) -> str:
    """Suggest a reset of the device."""
    return (
        "The device had memory errors that were not corrected: reset it (nvidia-smi --gpu-reset), "
        "run again, and have it replaced if they return."
    )


def row_remap_pending(_evidence: TrialEvidence, _limits: Limits) -> str:
    """Suggest a reset of the device."""
    return (
        "Rows of the device's memory wait to be replaced: reset it (nvidia-smi --gpu-reset); if "
        "nvidia-smi -q -d ROW_REMAPPER then reports a failure, have it replaced."
    )


def outputs_changed(evidence: TrialEvidence, _limits: Limits) -> str:
    """Name the workers, and say that their devices are not to be trusted."""
    return (
        f"{_workers(evidence, evidence.outputs.changed)} computed other outputs for the same batch after "
        "the window than before: trust no result of that device, look at its memory errors and have it "
        "tested (dcgmi diag -r 4)."
    )


def outputs_differ(evidence: TrialEvidence, _limits: Limits) -> str:
    """Name the workers that differ from most."""
    ranks = evidence.outputs.differing
    if len(ranks) == len(evidence.places):
        return (
            "The workers computed different outputs for the same batch, and none has most on its side: "
            "measure again, and have devices tested that keep differing."
        )
    return (
        f"{_workers(evidence, ranks)} computed other outputs for the same batch than the other workers: "
        "measure again, and have the device tested if it stays so."
    )


def _workers(evidence: TrialEvidence, ranks: Sequence[int]) -> str:
    """Return the first of some workers with its place, and how many more there are."""
    if not ranks:
        return "A worker"
    first, *others = ranks
    place = f" ({evidence.places[first]})" if first < len(evidence.places) else ""
    more = f" and {len(others)} more" if others else ""
    return f"Worker {first}{place}{more}"


def clock_skew(evidence: TrialEvidence, _limits: Limits) -> str:
    """Suggest checking time synchronisation."""
    skew = evidence.columns.get("clock_skew")
    share = "" if skew is None else f" by {skew:.2%} of the time"
    return (
        f"The clocks of the hosts moved against one another{share}: check time synchronisation "
        "(chrony) and that no virtual machine was paused, and run again."
    )


def wrong_outputs(evidence: TrialEvidence, _limits: Limits) -> str:
    """Name the distance of the outputs from fp32."""
    fidelity_db = evidence.columns.get("fidelity_sqnr_db")
    far = "far from" if fidelity_db is None else f"only at {fidelity_db:.0f} dB to"
    return (
        f"The outputs are {far} those of the fp32 graph: this engine computes something else, so "
        "its rate says nothing. Use another precision, engine or version."
    )


def reference_not_finite(_evidence: TrialEvidence, _limits: Limits) -> str:
    """Suggest inputs that the model takes."""
    return (
        "The fp32 outputs are not finite for these inputs, so nothing says whether this engine "
        "computes the model: set model.ranges or model.inputs to values that the model takes."
    )


def wide_ci(evidence: TrialEvidence, limits: Limits) -> str:
    """Say how much longer to measure for the target; the half-width falls with sqrt(time)."""
    relative, target = evidence.window.interval.relative, limits.settings.target
    return (
        f"The interval is {_half_width(relative)} where {_half_width(target)} is wanted: "
        f"{_measure_longer((relative / target) ** 2, evidence, limits)}."
    )


def few_neff(evidence: TrialEvidence, limits: Limits) -> str:
    """Say how much longer to measure for enough independent blocks."""
    worth, wanted = evidence.window.interval.n_eff, limits.settings.n_eff_min
    blocks, least = evidence.window.blocks, NBM_BATCHES
    times = max(wanted / worth, least / blocks)
    if blocks < least:
        return (
            f"The window has {counted(blocks, 'block')} and an interval needs {least}: "
            f"{_measure_longer(times, evidence, limits)}."
        )
    return (
        f"The window is worth {worth:.1f} independent blocks where {wanted:g} are wanted: "
        f"{_measure_longer(times, evidence, limits)}."
    )


def _half_width(relative: float) -> str:
    if not math.isfinite(relative):
        return "unknown"
    if relative > WIDE:
        return f"a factor of {math.exp(min(relative, 9)):,.1f} up and down"
    return f"±{relative:.2%}"


def _measure_longer(times: float, evidence: TrialEvidence, limits: Limits) -> str:
    if not math.isfinite(times):
        return "no batch was completed in time, use a smaller batch_size"
    times = max(times, 1.1)
    seconds = times * evidence.window.blocks * limits.span_s / limits.scale
    if times > OUT_OF_REACH:
        return (
            "a longer window would not do, so look for what disturbs the measurement, such as other "
            "work on the machine or a changing clock"
        )
    seconds = max(seconds, limits.settings.max_s)
    step = 10 if seconds > 10 else 1
    shown = math.ceil(seconds / step) * step
    return f"measure {times:.1f} times longer (measure.max_s={shown})"


def instances_uneven(evidence: TrialEvidence, limits: Limits) -> str:
    """Say that the share of an instance depends on chance or on its CPUs."""
    share = evidence.columns["instance_min_max_ratio"]
    return (
        f"The slowest instance of a device reached {100 * share:.0f} % of the fastest one's rate. "
        "Whoever is served by it waits longer; look at cpu_affinity in table workers, or use fewer."
    )


def time_sliced(evidence: TrialEvidence, limits: Limits) -> str:
    """Say what lets processes compute on one GPU at the same time."""
    return (
        "Without CUDA's Multi-Process Service only one process computes on a GPU at a time. Start it "
        "on every node before Ray (nvidia-cuda-mps-control -d), and measure again."
    )


def underfed(evidence: TrialEvidence, limits: Limits) -> str:
    """Say for how long the device waited, and how many cores would feed it."""
    share = evidence.columns.get("input_wait_frac") or 0.0
    cores = evidence.columns.get("decoder_threads") or 1
    needed = math.ceil(cores / max(1 - share, 0.01))
    return (
        f"{counted(cores, 'core')} left the device without input for {100 * share:.0f} % of the time. About "
        f"{needed} would feed it: cores={needed}, where the node has as many."
    )

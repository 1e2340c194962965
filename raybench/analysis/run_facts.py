"""What changed between the runs before a step and those after it, in the facts that were recorded."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from raybench.analysis.causes import NOT_SEEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

MOST_NAMED = 5
_FACTS = {
    "driver_version": "driver", "cuda_driver_version": "CUDA of the driver",
    "cuda_runtime_version": "CUDA", "tensorrt_version": "TensorRT",
    "tensorrt_rtx_version": "TensorRT-RTX", "onnxruntime_version": "ONNX Runtime",
    "openvino_version": "OpenVINO", "raybench_version": "raybench",
    "raybench_git_sha": "raybench commit", "power_limit_w": "power limit in W",
    "app_clock_sm_mhz": "application clock in MHz", "gpu_vbios": "VBIOS", "ecc_mode": "ECC",
    "mig_mode": "MIG", "persistence_mode": "persistence mode", "pcie_gen": "PCIe generation",
    "pcie_width": "PCIe lanes", "hostname": "host", "cpu_model": "CPU", "cpu_governor": "governor",
    "smt": "SMT", "cpu_usable": "CPUs that may be used", "cpu_quota_cores": "CPU quota in cores",
    "memory_limit_gib": "memory limit in GiB", "kernel": "kernel", "os": "operating system",
    "container_image": "container", "container_digest": "container digest",
    "instance_type": "instance", "python_version": "Python", "ray_version": "Ray",
    "numpy_version": "NumPy", "onnx_version": "ONNX", "gpu_uuid": "GPU",
}  # fmt: skip
"""Columns of `environment` with their names, the most telling first."""
_MEASURED = {
    "sm_clock_mhz_mean": ("SM clock {0:.0f} -> {1:.0f} MHz", 0.01),
    "cpu_mhz_mean": ("CPU clock {0:.0f} -> {1:.0f} MHz", 0.02),
    "throttle_thermal_frac": ("slowed by heat {0:.0%} -> {1:.0%} of the time", 0.01),
    "throttle_hw_frac": ("slowed by hardware {0:.0%} -> {1:.0%} of the time", 0.01),
    "throttle_power_frac": ("at its power cap {0:.0%} -> {1:.0%} of the time", 0.05),
}
"""Columns of `trials`: words, and the difference that counts (of clocks relative to the level)."""
_SHARES = "_frac"


class RunFacts:
    """The facts behind runs, by run and environment.

    Args:
        trials: for the tags that the user gave the runs.
        environment: of the same folders.
    """

    def __init__(self, trials: pa.Table, environment: pa.Table) -> None:
        names = [name for name in _FACTS if name in environment.column_names]
        self._rows: dict[tuple[Any, Any], list[dict[str, Any]]] = defaultdict(list)
        for row in environment.select(["run_id", "environment_id", *names]).to_pylist():
            self._rows[row["run_id"], row["environment_id"]].append(row)
        self._tags: dict[Any, dict[str, str]] = {}
        if "tags" in trials.column_names:
            runs, tags = trials["run_id"].to_pylist(), trials["tags"].to_pylist()
            self._tags = {run: dict(of) for run, of in zip(runs, tags, strict=True) if of}

    def of(self, run_id: str, environment_id: str | None) -> dict[str, frozenset[Any]]:
        """Return the values of each fact over the machines and GPUs of a run, without unknown ones."""
        facts: dict[str, set[Any]] = defaultdict(set)
        for row in self._rows.get((run_id, environment_id), ()):
            for name, words in _FACTS.items():
                if row.get(name) is not None:
                    facts[words].add(row[name])
        for tag, value in self._tags.get(run_id, {}).items():
            facts[f"tag {tag}"].add(value)
        return {name: frozenset(values) for name, values in facts.items()}


def what_changed(
    before: Sequence[Mapping[str, frozenset[Any]]],
    after: Sequence[Mapping[str, frozenset[Any]]],
    measured: Sequence[Sequence[Mapping[str, float]]],
) -> tuple[str, ...]:
    """Return what differs between the runs before a step and those after it, in words.

    A fact counts whose values before and after have nothing in common: one that came and went on
    either side explains nothing. What is unknown on a side is left out.

    Args:
        before: facts of each run before, oldest first.
        after: facts of each run after.
        measured: medians of measured columns, of each run before and of each after.
    """
    named = [*_facts(before, after), *_measured(*measured)]
    more = len(named) - MOST_NAMED
    shown = named[:MOST_NAMED] + ([f"and {more} more"] if more > 0 else [])
    return tuple(shown) or (NOT_SEEN,)


def _facts(
    before: Sequence[Mapping[str, frozenset[Any]]], after: Sequence[Mapping[str, frozenset[Any]]]
) -> Iterable[str]:
    names = dict.fromkeys([*_FACTS.values(), *(name for facts in after for name in facts)])
    for name in names:
        old, new = ([facts[name] for facts in side if name in facts] for side in (before, after))
        if old and new and not frozenset().union(*old) & frozenset().union(*new):
            yield f"{name} {_words(old[-1])} -> {_words(new[0])}"


def _measured(
    before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]
) -> Iterable[str]:
    for column, (words, least) in _MEASURED.items():
        old, new = ([run[column] for run in side if column in run] for side in (before, after))
        if not old or not new:
            continue
        a, b = statistics.median(old), statistics.median(new)
        if abs(b - a) >= least * (1.0 if column.endswith(_SHARES) else abs(a)) > 0:
            yield words.format(a, b)


def _words(values: frozenset[Any]) -> str:
    texts = sorted(
        ("on" if value else "off")
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
        for value in values
    )
    more = f" and {len(texts) - 2} more" if len(texts) > 2 else ""
    return " and ".join(texts) if not more else ", ".join(texts[:2]) + more

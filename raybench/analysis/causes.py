"""What differs between a slow device and the others in the facts that were recorded."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pyarrow as pa

    from raybench.analysis.fleet import Fleet, FleetPoint

NOT_SEEN = "cause not seen"
MOST_NAMED = 3


@dataclass(frozen=True)
class _Number:
    """A fact that is a number.

    Attributes:
        column: of `workers` or `environment`.
        sign: 1 where more is worse, -1 where less is.
        least: difference from the usual value that counts.
        relative: whether `least` is a share of the usual value.
        words: what to say, from the value and the usual one.
    """

    column: str
    sign: int
    least: float
    relative: bool
    words: Callable[[float, float], str]


def _less(column: str, least: float, words: Callable[[float, float], str]) -> _Number:
    return _Number(column, -1, least, True, words)


def _more(column: str, least: float, words: Callable[[float, float], str]) -> _Number:
    return _Number(column, 1, least, False, words)


def _of_time(what: str) -> Callable[[float, float], str]:
    return lambda value, usual: (
        f"{what} {100 * value:.0f} % of the time, others {100 * usual:.0f} %"
    )


_NUMBERS = (
    _less("power_limit_w", 0.01, lambda v, u: f"power limit {v:.0f} W, {u - v:.0f} W under the others'"),
    _more("throttle_hw_frac", 0.01, _of_time("slowed by hardware")),
    _more("throttle_thermal_frac", 0.01, _of_time("slowed by heat")),
    _more("throttle_power_frac", 0.05, _of_time("at its power cap")),
    _less("pcie_width", 0.01, lambda v, u: f"PCIe x{v:.0f} instead of x{u:.0f}"),
    _less("pcie_gen", 0.01, lambda v, u: f"PCIe generation {v:.0f} instead of {u:.0f}"),
    _less("app_clock_sm_mhz", 0.01, lambda v, u: f"application clock {v:.0f} instead of {u:.0f} MHz"),
    _less("sm_clock_mhz_mean", 0.01, lambda v, u: f"SM clock {v:.0f} instead of {u:.0f} MHz"),
    _less("mem_clock_mhz_mean", 0.01, lambda v, u: f"memory clock {v:.0f} instead of {u:.0f} MHz"),
    _more("xid_errors", 1, lambda v, u: f"{v:.0f} errors that the driver reported (XID)"),
    _more("ecc_errors", 1, lambda v, u: f"{v:.0f} uncorrected memory errors (ECC)"),
    _more("ecc_corrected", 1, lambda v, u: f"{v:.0f} corrected memory errors (ECC)"),
    _more("remapped_rows_total", 1, lambda v, u: f"{v:.0f} rows of memory replaced, others {u:.0f}"),
    _more("row_remap_pending", 1, lambda v, u: "rows of memory wait for a reset to be replaced"),
    _more("foreign_processes", 1, lambda v, u: f"{v:.0f} other processes on the device"),
    _more("cpu_throttled_frac", 0.01, _of_time("held back by a CPU quota")),
    _more("steal_frac", 0.01, _of_time("its CPUs were given to other machines")),
    _more("foreign_load_frac", 0.03, lambda v, u: f"others used {100 * v:.0f} % of its cores, against {100 * u:.0f} %"),
    _less("cpu_quota_cores", 0.01, lambda v, u: f"CPU quota of {v:g} cores instead of {u:g}"),
    _less("cores", 0.01, lambda v, u: f"{v:.0f} cores instead of {u:.0f}"),
    _less("cpu_mhz_mean", 0.02, lambda v, u: f"CPU clock {v:.0f} instead of {u:.0f} MHz"),
    _more("temp_c_max", 8, lambda v, u: f"{v:.0f} degrees against {u:.0f}"),
)  # fmt: skip
"""Numbers that are looked at, the most telling first."""
_TEXTS = {
    "mps": "MPS", "mig_profile": "MIG profile", "ecc_mode": "ECC", "gpu_vbios": "VBIOS",
    "driver_version": "driver", "tensorrt_version": "TensorRT", "tensorrt_rtx_version": "TensorRT-RTX",
    "onnxruntime_version": "ONNX Runtime", "openvino_version": "OpenVINO",
    "cuda_runtime_version": "CUDA", "cpu_model": "CPU", "cpu_governor": "governor", "smt": "SMT",
    "persistence_mode": "persistence mode", "kernel": "kernel", "raybench_version": "raybench",
}  # fmt: skip
"""Facts that are words, with their names."""


class FleetFacts:
    """What was recorded of each device beside its rates.

    Args:
        fleet: the devices.
        workers: table of the rows that the fleet was made from.
        environment: table of the same folders.
    """

    def __init__(self, fleet: Fleet, workers: pa.Table, environment: pa.Table) -> None:
        self._fleet = fleet
        numbers = [fact.column for fact in _NUMBERS]
        self._columns = {
            name: workers[name].to_pylist()
            for name in (*numbers, *_TEXTS, "cpu_affinity")
            if name in workers.column_names
        }
        self._hosts: dict[Any, Mapping[str, Any]] = {}
        wanted = [
            n for n in ("hostname", "gpu_uuid", *numbers, *_TEXTS) if n in environment.column_names
        ]
        for row in environment.select(wanted).to_pylist():
            for key in (("host", row.get("hostname")), ("gpu", row.get("gpu_uuid"))):
                self._hosts[key] = row

    def at(self, point: FleetPoint) -> list[dict[str, Any]]:
        """Return the facts of each of a point's devices, in their order, without unknown ones."""
        return [
            self._of(device, rows) for device, rows in zip(point.devices, point.rows, strict=True)
        ]

    def _of(self, device: int, rows: Sequence[int]) -> dict[str, Any]:
        one = self._fleet.devices[device]
        host = self._hosts.get(("host", one.hostname), {})
        own = self._hosts.get(("gpu", one.uuid), host) if one.uuid else host
        facts = {name: value for name, value in own.items() if value is not None}
        for name, column in self._columns.items():
            values = [column[row] for row in rows if column[row] is not None]
            if not values:
                continue
            facts[name] = values[-1] if isinstance(values[-1], str) else statistics.median(values)
        if "cpu_affinity" in facts:
            facts["cores"] = cores(facts["cpu_affinity"])
        return facts


def usual_facts(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is usual of several devices: medians of numbers, the most frequent of words."""
    numbers = {
        fact.column: statistics.median(values)
        for fact in _NUMBERS
        if (values := _values(facts, fact.column))
    }
    texts = {name: value for name in _TEXTS if (value := _usual(facts, name)) is not None}
    return {**numbers, **texts}


def cores(affinity: str) -> int:
    """Return how many CPUs a list such as "0-3,8" names."""
    count = 0
    for part in affinity.split(","):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1 if first.isdigit() else 0
    return count


def cause(own: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> str:
    """Return what differs between a device, or the devices of a group, and the others, in words.

    Args:
        own: facts of the device, or of each of a group's.
        others: facts of those that it is compared with.
    """
    named = [*_numbers(own, others), *_texts(own, others)]
    return "; ".join(named[:MOST_NAMED]) or NOT_SEEN


def _numbers(
    own: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]
) -> Iterable[str]:
    for fact in _NUMBERS:
        mine, theirs = _values(own, fact.column), _values(others, fact.column)
        if not mine or not theirs:
            continue
        value, usual = statistics.median(mine), statistics.median(theirs)
        least = fact.least * (abs(usual) if fact.relative else 1.0)
        if fact.sign * (value - usual) >= least > 0:
            yield fact.words(value, usual)


def _values(facts: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(one[name]) for one in facts if one.get(name) is not None]


def _texts(own: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    for name, words in _TEXTS.items():
        mine, theirs = _usual(own, name), _usual(others, name)
        if mine is not None and theirs is not None and mine != theirs:
            yield f"{words} {_word(mine)} instead of {_word(theirs)}"


def _usual(facts: Sequence[Mapping[str, Any]], name: str) -> Any:
    """Return the most frequent value; None where it is unknown."""
    counts = Counter(one[name] for one in facts if one.get(name) is not None)
    return counts.most_common(1)[0][0] if counts else None


def _word(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)

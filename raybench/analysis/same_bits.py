"""Whether the devices of a fleet compute the same bits: each as before, and all as one another.

Every worker has hashed the outputs of one fixed batch before the warm-up and after the window. What
changes on a device says that it computes wrong; two devices that differ and each repeat their own
bits are worth a look and no verdict, since sound chips were seen to differ.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raybench.analysis.device_verdicts import REJECT, AgreedBits
from raybench.analysis.selection import with_columns
from raybench.experiment import ENVIRONMENT
from raybench.stats.agreement import minority
from raybench.text import agreeing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from raybench.analysis.device_verdicts import DeviceVerdict
    from raybench.analysis.fleet import Fleet

CHANGED = "its outputs changed during the trial"
START, END = "outputs_sha256_start", "outputs_sha256_end"
_KEY = ("run_id", "point_id", "trial")
_COMPUTED = (
    "model", "model_identity", "precision", "dialect", "batch_size", "inputs", "seed", "engine",
    "engine_options",
)  # fmt: skip
"""Columns of `trials` that say what was computed."""
_OF_WORKER = ("device", "engine_sha256", "threads")
_NO_VERDICT = (
    "That alone is no verdict: measure again, and have a device tested that keeps differing."
)
MOST_NAMED = 5


def agreed_bits(
    fleet: Fleet, trials: pa.Table, workers: pa.Table, environment: pa.Table
) -> AgreedBits:
    """Compare the outputs of all devices; rows from before they were hashed say nothing.

    Args:
        fleet: the devices.
        trials: as `raybench.load` returns it.
        workers: the table that the fleet was made from.
        environment: of the same folders; tells versions of drivers and libraries apart.
    """
    known, changed = set(), set()
    kinds: dict[Any, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for device, start, end, kind in _hashes(fleet, trials, workers, environment):
        if start is None:
            continue
        if end is not None:
            known.add(device)
        if end is not None and start != end:
            changed.add(device)
        elif kind is not None:
            kinds[kind][device].add(start)
    compared: set[int] = set()
    warnings = []
    for kind, hashes in kinds.items():
        # a device of several hashes differs from itself, from one process to the next
        own = {
            device: one
            for device, (one, *more) in hashes.items()
            if not more and device not in changed
        }
        compared |= own.keys() if len(own) > 1 else set()
        odd = [list(own)[place] for place in minority(list(own.values()))]
        if odd:
            names = [fleet.devices[device].name for device in sorted(odd)]
            warnings.append(_warning(names, len(own) - len(odd), kind))
    return AgreedBits(
        len(known),
        tuple(fleet.devices[device].name for device in sorted(changed)),
        len(compared),
        tuple(warnings),
    )


def _warning(names: Sequence[str], others: int, kind: Sequence[Any]) -> str:
    """Say which devices differ from how many others, and at what."""
    facts = dict(zip(_COMPUTED, kind, strict=False))
    at = f"{facts['model']}, {facts['precision']}, batch {facts['batch_size']}"
    named = ", ".join(names[:MOST_NAMED])
    named += f" and {len(names) - MOST_NAMED} more" * (len(names) > MOST_NAMED)
    if not others:
        return (
            f"Outputs differ between {named} ({at}), of one plan, chip, driver and library, and no bits "
            f"have a majority. {_NO_VERDICT}"
        )
    than = "the other" if others == 1 else f"the {others} others"
    return (
        f"Outputs differ: {named} {agreeing(len(names), 'computes', 'compute')} other bits than {than} of "
        f"the same plan, chip, driver and library ({at}). {_NO_VERDICT}"
    )


def with_changed(verdict: DeviceVerdict) -> DeviceVerdict:
    """Return the verdict on a device whose outputs changed: rejected, whatever its rate."""
    slow = f"; it is slow as well: {verdict.cause}" if verdict.verdict == REJECT else ""
    return replace(
        verdict,
        verdict=REJECT,
        cause=f"{CHANGED}{slow}",
        outputs_changed=True,
        slow_group=None,
        trials_needed=None,
    )


def _hashes(
    fleet: Fleet, trials: pa.Table, workers: pa.Table, environment: pa.Table
) -> Iterator[tuple[int, str | None, str | None, Any]]:
    """Yield of each worker its device, both hashes, and what must be equal for equal bits.

    The last is None where the row of the trial is missing.
    """
    if not {START, END, *_OF_WORKER} <= set(workers.column_names):
        return
    rows = with_columns(trials, (*_KEY, *_COMPUTED))
    computed = dict(zip(_tuples(rows, _KEY), _tuples(rows, _COMPUTED), strict=True))
    versions = _versions(environment)
    own = _tuples(workers, ("hostname", "gpu_uuid", START, END, *_OF_WORKER))
    for device, key, row in zip(fleet.device_of, _tuples(workers, _KEY), own, strict=True):
        host, uuid, start, end, *facts = row
        what, run = computed.get(key), key[0]
        of_host = versions.get((run, "host", host))
        installed = versions.get((run, "gpu", uuid), of_host) if uuid else of_host
        yield device, start, end, None if what is None else (*what, *facts, installed)


def _versions(environment: pa.Table) -> Mapping[Any, tuple[Any, ...]]:
    """Return the versions of driver and libraries by run and host, and by run and GPU."""
    names = [n for n in (*ENVIRONMENT, "tensorrt_rtx_version") if n in environment.column_names]
    found: dict[Any, tuple[Any, ...]] = {}
    places = _tuples(environment, ("run_id", "hostname", "gpu_uuid"))
    for (run, host, uuid), facts in zip(places, _tuples(environment, names), strict=True):
        found[run, "host", host] = found[run, "gpu", uuid] = facts
    return found


def _tuples(table: pa.Table, names: Any) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))

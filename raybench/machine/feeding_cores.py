"""The cores that feed a device: which threads that decode its inputs are pinned to which.

Each thread has a core of its own, pinned to the first of its logical CPUs. The workers of a point on a
node have equal parts of the cores, or each the share of its GPU; no core is used by two of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from raybench.errors import Infeasible
from raybench.machine import devices, sysfs
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.machine.devices import Device


class FeedingCores(NamedTuple):
    """Where the inputs of a device are decoded.

    Attributes:
        cpus: logical CPUs, one of each core.
        engine_cpus: logical CPUs for everything else of the process: the loop and the engine.
        notes: what a row must say of both, a sentence each.
    """

    cpus: tuple[int, ...]
    engine_cpus: tuple[int, ...]
    notes: tuple[str, ...] = ()


def feeding_cores(
    device: Device, cores: int, part: int, parts: int, allowed_cpus: Sequence[int]
) -> FeedingCores:
    """Choose the cores that feed a device.

    Args:
        device: of this worker.
        cores: how many are to feed it.
        part: which of the workers on this node it is, from 0.
        parts: number of workers of the point on this node.
        allowed_cpus: logical CPUs that the process began with.

    Raises:
        Infeasible: the node has too few cores.
    """
    every = devices.cores(allowed_cpus)[::-1]
    refusal = too_few(cores, parts, len(every))
    if refusal is not None:
        raise Infeasible(refusal)
    if device.kind == "cpu":
        return _beside_core(device, every, cores, part, parts)
    near = [cpu for cpu in every if cpu in device.cpus]
    if _all_have_near(cores, every, allowed_cpus):
        return _beside_loop(device.cpus, tuple(near[len(near) - cores :]))
    own = every[part * len(every) // parts : (part + 1) * len(every) // parts]
    cpus = own[len(own) - cores :]
    chosen = _beside_loop(tuple(dict.fromkeys((*device.cpus, *own))), cpus)
    if device.cpus and not set(cpus) <= set(device.cpus):
        far = f"The GPU's own share is {counted(len(near), 'core')}: some that feed it are far from it."
        return chosen._replace(notes=(*chosen.notes, far))
    return chosen


def _all_have_near(cores: int, every: Sequence[int], allowed_cpus: Sequence[int]) -> bool:
    """Return whether each GPU of the node has cores enough in a share that it has for itself.

    Every worker answers alike, whatever its GPU: were some fed from their shares and others by their number
    among the workers, two could be given one core.
    """
    shares = [set(share) for share in devices.gpu_shares(allowed_cpus)]
    apart = sum(map(len, shares)) == len(set().union(*shares))
    return bool(shares) and apart and all(len(share & set(every)) > cores for share in shares)


def too_few(cores: int, workers: int, there: int) -> str | None:
    """Return why a node with so many cores cannot feed its workers; None if it can."""
    if cores * workers <= there:
        return None
    each = f" for each of {workers} workers" if workers > 1 else ""
    return (
        f"cores={cores} needs {counted(cores, 'core')}{each} to decode on, and the node has {there}. "
        "Use fewer cores, or a node with more."
    )


def _beside_core(
    device: Device, every: Sequence[int], cores: int, part: int, parts: int
) -> FeedingCores:
    """Choose cores beside those that the engines of all workers on the node compute on."""
    # workers are given the first cores, or a single one any
    engines = {device.index} if parts == 1 else {device.index, *every[-parts:]}
    free = [cpu for cpu in every if cpu not in engines]
    shared = len(free) < cores * parts
    cpus = tuple((every if shared else free)[part * cores : (part + 1) * cores])
    notes = (_shared("an engine computes on"),) if shared else ()
    return FeedingCores(cpus, (device.index,), notes)


def _beside_loop(own: Sequence[int], cpus: tuple[int, ...]) -> FeedingCores:
    """Leave to the loop that submits batches what the threads do not use of a GPU's CPUs."""
    used = {sibling for cpu in cpus for sibling in sysfs.core_siblings(cpu)}
    rest = tuple(cpu for cpu in own if cpu not in used)
    if rest:
        return FeedingCores(cpus, rest)
    return FeedingCores(cpus, tuple(own) or cpus, (_shared("batches are submitted from"),))


def _shared(what: str) -> str:
    return f"The cores that decode are also those that {what}: both slow each other down."

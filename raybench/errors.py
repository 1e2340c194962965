"""Exceptions that raybench raises on purpose, and the exit code or row status each leads to.

RaybenchError
├── UsageError              the user can fix it; one line, exit code 2, and nothing was started, but
│   │                       for rows that cannot be written, which end a run (ResultsError)
│   ├── ConfigError         an invalid key, name, value or grid
│   ├── ModelError          a file that is not a usable ONNX model, or is incomplete
│   ├── EngineUnavailable   the engine's library is missing or unusable here
│   ├── ClusterError        no cluster, or not enough devices in it
│   ├── ResultsError        a results folder that cannot be read or written
│   └── ComparisonRefused   two sets of rows that are not comparable
└── PointError              one point ended without a number; becomes a row, the grid goes on
    ├── OutOfMemory         the batch, the graph or the engine did not fit
    ├── Unsupported         this engine cannot do this on this device
    ├── Infeasible          the remaining devices or their memory are too small for the point
    ├── EngineFailure       the engine failed; carries its own message
    │   └── Refused         the request is at fault: trying again changes nothing
    ├── PhaseTimeout        a phase did not end by its deadline
    ├── WorkerDied          the process of a worker ended unexpectedly
    ├── NodeDied            the machine of a worker went away
    └── Interrupted         the user or the batch system ended the run
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable


class RaybenchError(Exception):
    """Base class of everything that raybench raises on purpose."""


class UsageError(RaybenchError):
    """A request that cannot be carried out; the message says what to do now."""


class ConfigError(UsageError):
    """An invalid key, name, value or grid in the configuration."""


class ModelError(UsageError):
    """A model that cannot be used, or that lacks information about its inputs."""


class EngineUnavailable(UsageError):
    """The library behind an engine is missing or unusable on this machine."""


class ClusterError(UsageError):
    """No Ray cluster can be reached, or it lacks what was asked for."""


class ResultsError(UsageError):
    """A results folder that cannot be read or written."""


class HeadLost(RaybenchError):
    """The head node of a cluster went away during a run, and the cluster with it."""


class ComparisonRefused(UsageError):
    """Two sets of rows that differ in something that the user did not allow to differ."""


class PointError(RaybenchError):
    """A point that ended without a number; the message becomes the reason in its row.

    Attributes:
        status: status of the row.
        retried: whether another attempt with fresh workers might succeed.
        ranks: of the affected workers; empty when unknown.
    """

    status = "failed"
    retried = True
    ranks: tuple[int, ...] = ()

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        """Keep class and attributes when the error is pickled on its way to the driver."""
        return (_rebuild, (type(self), self.args), self.__dict__)


def _rebuild(kind: type[PointError], args: tuple[object, ...]) -> PointError:
    error = kind.__new__(kind)
    error.args = args
    return error


class OutOfMemory(PointError):
    """Memory of the device or the host ran out.

    Attributes:
        stage: "build", "load", "input" or "run".
        requested_bytes: size of the failed allocation; None when the engine did not report it.
    """

    status = "out_of_memory"
    retried = False

    def __init__(self, stage: str, requested_bytes: int | None, message: str) -> None:
        size = (
            "an unknown amount" if requested_bytes is None else f"{requested_bytes / 2**20:.0f} MiB"
        )
        super().__init__(
            f"Out of memory at stage {stage!r} asking for {size}: {message}. "
            "Use a smaller batch_size or a device with more memory."
        )
        self.stage = stage
        self.requested_bytes = requested_bytes


class Unsupported(PointError):
    """A request that this engine cannot serve on this device and therefore refuses."""

    status = "unsupported"
    retried = False


class Infeasible(PointError):
    """A point for which the remaining devices or their memory are too small.

    Attributes:
        devices_lost: whether its devices existed when the run began, so that a later run may still
            measure it.
    """

    status = "infeasible"
    retried = False
    devices_lost = False


class EngineFailure(PointError):
    """A failure inside the engine; the message contains the engine's own."""


class Refused(EngineFailure):
    """A failure caused by the request itself, which another attempt would repeat."""

    retried = False


class PhaseTimeout(PointError):
    """A phase of a point that did not end by its deadline; its workers were killed."""

    status = "timeout"


class WorkerDied(PointError):
    """The process of a worker ended unexpectedly.

    Attributes:
        node_unclear: whether the connection broke, so that the node may be gone as well.
    """

    status = "worker_died"
    node_unclear = False


class NodeDied(PointError):
    """The machine of a worker went away."""

    status = "node_died"


class Interrupted(PointError):
    """The user or the batch system ended the run while the point was measured."""

    status = "interrupted"
    retried = False


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a clause that suggests the most similar choice, if any, and lists all choices."""
    names = sorted(choices)
    close = closest(name, names)
    if close is not None:
        return f"Did you mean {close!r}? Known: {', '.join(names)}."
    return f"Known: {', '.join(names) or 'none'}."


def closest(name: str, choices: Iterable[str], cutoff: float = 0.5) -> str | None:
    """Return the most similar choice, or None; case, dots, dashes and underscores hardly count.

    Args:
        name: as written.
        choices: what could have been meant.
        cutoff: least similarity, from 0 to 1.
    """
    bare = {choice: _bare(choice) for choice in sorted(choices)}
    found = difflib.get_close_matches(_bare(name[:200]), bare.values(), n=1, cutoff=cutoff)
    if not found:
        return None
    same = [choice for choice, text in bare.items() if text == found[0]]
    return name if name in same else same[0]


def _bare(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(".", "").strip()

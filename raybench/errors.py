"""Everything that raybench raises on purpose.

RaybenchError
├── UsageError              the user can mend it now; one line, exit code 2, nothing was started
│   ├── ConfigError         a key, name, value or grid that cannot be
│   ├── ModelError          a file that is not a usable ONNX model, or lacks something
│   ├── EngineUnavailable   the engine's library is missing or unusable here
│   ├── ClusterError        no cluster, or not enough devices in it
│   ├── ResultsError        a results folder that cannot be read or written
│   └── ComparisonRefused   two sets of rows that are not alike
└── PointError              one point ended without a number; becomes a row, the grid goes on
    ├── OutOfMemory         the batch, the graph or the engine did not fit
    ├── Unsupported         this engine cannot do that on this device
    ├── Infeasible          what is left of the devices or of their memory does not hold it
    ├── EngineFailure       the engine said no in its own words
    │   └── Refused         the request is at fault: trying again changes nothing
    ├── PhaseTimeout        a phase did not end by its deadline
    ├── WorkerDied          the process of a worker ended on its own
    ├── NodeDied            the machine of a worker went away
    └── Interrupted         the user, or the batch system, ended the run
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable


class RaybenchError(Exception):
    """Root of everything that raybench raises on purpose."""


class UsageError(RaybenchError):
    """The request cannot be carried out as it stands; the message says what to do now."""


class ConfigError(UsageError):
    """A key, name, value or grid that cannot be."""


class ModelError(UsageError):
    """A model that cannot be used, or of which something must be told."""


class EngineUnavailable(UsageError):
    """The library behind an engine is missing or unusable on this machine."""


class ClusterError(UsageError):
    """No Ray cluster can be reached, or it has not got what was asked for."""


class ResultsError(UsageError):
    """A results folder that cannot be read or written."""


class ComparisonRefused(UsageError):
    """Two sets of rows that are not alike in something that nobody said may differ."""


class PointError(RaybenchError):
    """One point ended without a number. `status` is the row's status, the text its reason.

    Attributes:
        retried: whether fresh workers might do better.
        ranks: the workers that it struck; empty when that is not known.
    """

    status = "failed"
    retried = True
    ranks: tuple[int, ...] = ()

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        """Survive the way from a worker process to the driver."""
        return (_rebuild, (type(self), self.args), self.__dict__)


def _rebuild(kind: type[PointError], args: tuple[object, ...]) -> PointError:
    error = kind.__new__(kind)
    error.args = args
    return error


class OutOfMemory(PointError):
    """Memory ran out at `stage`; `requested_bytes` is None when the engine did not say.

    Stages: build, load, input, run.
    """

    status = "out_of_memory"
    retried = False

    def __init__(self, stage: str, requested_bytes: int | None, words: str) -> None:
        size = (
            "an unknown amount" if requested_bytes is None else f"{requested_bytes / 2**20:.0f} MiB"
        )
        super().__init__(
            f"Out of memory at stage {stage!r} asking for {size}: {words}. "
            "Use a smaller batch_size or a device with more memory."
        )
        self.stage = stage
        self.requested_bytes = requested_bytes


class Unsupported(PointError):
    """This engine cannot do that on this device, and says so instead of doing something else."""

    status = "unsupported"
    retried = False


class Infeasible(PointError):
    """What is left of the devices or of their memory does not hold the point.

    Attributes:
        lost: the devices for it were there when the run began: the question is still open.
    """

    status = "infeasible"
    retried = False
    lost = False


class EngineFailure(PointError):
    """The engine refused or broke; the text holds its own words."""


class Refused(EngineFailure):
    """The point fails for a reason that lies in the request: trying again changes nothing."""

    retried = False


class PhaseTimeout(PointError):
    """A phase of a point did not end by its deadline; its workers were killed."""

    status = "timeout"


class WorkerDied(PointError):
    """The process of a worker ended on its own.

    Attributes:
        vague: the connection broke and nothing tells yet whether the node is gone with it.
    """

    status = "worker_died"
    vague = False


class NodeDied(PointError):
    """The machine of a worker went away."""

    status = "node_died"


class Interrupted(PointError):
    """The user, or the batch system, ended the run while the point was measured."""

    status = "interrupted"
    retried = False


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause that offers the nearest known name, or lists what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}? Known: {', '.join(names)}."
    return f"Known: {', '.join(names) or 'none'}."

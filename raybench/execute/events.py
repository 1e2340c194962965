"""Events: what a run announces while it works, to the terminal and to metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from raybench.measure.progress import TrialProgress
    from raybench.planning.plan import PlannedTrial
    from raybench.planning.rate_search import TrialsAhead


@dataclass(frozen=True)
class TrialSkipped:
    """A trial has a final row in the store; `status` is that row's."""

    planned: PlannedTrial
    status: str


@dataclass(frozen=True)
class TrialStarted:
    """An attempt at a trial starts."""

    planned: PlannedTrial


@dataclass(frozen=True)
class PhaseChanged:
    """Trial `number` of the plan enters a phase, or is in a step of it.

    Attributes:
        number: of the trial in the plan.
        phase: start, prepare, warm-up, measure, layers.
        step: what its workers do in it, e.g. "loading the graph"; empty where unknown.
        detail: how far they are with it, e.g. "such a plan took 61 s"; empty where unknown.
    """

    number: int
    phase: str
    step: str = ""
    detail: str = ""


@dataclass(frozen=True)
class BatchTimed:
    """A trial is prepared, and its slowest worker takes `batch_s` seconds for a batch."""

    planned: PlannedTrial
    batch_s: float


@dataclass(frozen=True)
class ProgressUpdated:
    """New numbers about the running streams of trial `number`, about once a second."""

    number: int
    progress: TrialProgress


@dataclass(frozen=True)
class RowWritten:
    """The row of a trial is in the store."""

    planned: PlannedTrial
    row: Mapping[str, Any]

    @property
    def number(self) -> int:
        """Place of the trial in the plan; 0 for one that is not in it."""
        return self.planned.number


@dataclass(frozen=True)
class IntervalEnded:
    """An interval of a soak has ended; its rows are written before anybody hears of it.

    Attributes:
        planned: the trial.
        interval: number of the interval, from 0.
        rows: of the table `soak`, one for each worker.
        events: of the table `events`.
    """

    planned: PlannedTrial
    interval: int
    rows: tuple[Mapping[str, Any], ...]
    events: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class AttemptEnded:
    """An attempt has ended; what has a row is followed by it."""

    planned: PlannedTrial


@dataclass(frozen=True)
class SearchesAdvanced:
    """What the searches for the highest rate still take, by the place of their point in the plan."""

    ahead: Mapping[int, TrialsAhead]


@dataclass(frozen=True)
class Ticked:
    """Time has passed without another event."""


@dataclass(frozen=True)
class Note:
    """Something no row says: a retry, a device that is no longer used."""

    text: str


Event: TypeAlias = (
    TrialSkipped
    | TrialStarted
    | PhaseChanged
    | BatchTimed
    | ProgressUpdated
    | IntervalEnded
    | AttemptEnded
    | RowWritten
    | SearchesAdvanced
    | Ticked
    | Note
)
Listener: TypeAlias = Callable[[Event], None]
"""Called from the writer's thread, which delivers the events of a run in their order."""


def to_all(listeners: Iterable[Listener]) -> Listener:
    """Return a listener that passes every event on to all of these."""
    everyone = tuple(listeners)

    def on_event(event: Event) -> None:
        for listener in everyone:
            listener(event)

    return on_event

"""Where the time of a run went: planning, starting Ray, starting workers, building, warming up, measuring."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

from raybench.execute.events import AttemptEnded, PhaseChanged, RowWritten, TrialStarted
from raybench.execute.running_trials import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raybench.execute.events import Event

PLANNING, RAY, BUILDING, BETWEEN = "planning", "starting Ray", "building ahead", "between"
WORDS = {
    "start": "starting workers",
    "prepare": "preparing",
    "build": "building in trials",
    "warm-up": "warming up",
    "measure": "measuring",
    "layers": "timing layers",
}
"""Phases in the order in which a second counts for them when trials run at the same time: the last."""
SHORTEST_S = 0.5
"""What took less is left out."""


class TimeSpent:
    """Adds up the wall-clock time of each phase from the events of a run.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = self._began = clock()
        self._phases: dict[int, str] = {}
        """Phase of each trial that runs, by its number in the plan; of a build, `BUILDING`."""
        self._own_s: defaultdict[int, defaultdict[str, float]] = defaultdict(
            lambda: defaultdict(float)
        )
        """Seconds of each trial in each of its phases."""
        self._idle = PLANNING
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def starting_ray(self) -> None:
        """Note that the plan is made, for which models of other packages may have been exported."""
        self._pass()
        self._idle = RAY

    def on_event(self, event: Event) -> None:
        """Note the phase that a trial enters."""
        self._pass()
        self._idle = BETWEEN
        if isinstance(event, TrialStarted):
            self._own_s.pop(event.planned.number, None)  # of an attempt that came to nothing
            ahead = event.planned.purpose == "prepare"
            self._phases[event.planned.number] = BUILDING if ahead else WORDS["start"]
        elif isinstance(event, PhaseChanged) and self._phases.get(event.number) != BUILDING:
            phase = "build" if event.step.startswith("building the plan") else event.phase
            self._phases[event.number] = WORDS.get(phase, BETWEEN)
        elif isinstance(event, AttemptEnded):
            self._phases.pop(event.planned.number, None)
        elif isinstance(event, RowWritten):
            self._measured(self._own_s.pop(event.number, {}), event.row.get("window_s") or 0.0)

    def _measured(self, own_s: Mapping[str, float], window_s: float) -> None:
        """Count a window as measured from its beginning, which is known only some time after it.

        Where trials run at the same time, the seconds are taken from those in which none measured.
        """
        warming, measuring = WORDS["warm-up"], WORDS["measure"]
        late_s = max(window_s - own_s.get(measuring, 0.0), 0.0)
        late_s = min(late_s, own_s.get(warming, 0.0), self.seconds[warming])
        self.seconds[warming] -= late_s
        self.seconds[measuring] += late_s

    def _pass(self) -> None:
        now = self._clock()
        order = (BETWEEN, BUILDING, *WORDS.values())
        phase = max(self._phases.values(), key=order.index, default=self._idle)
        self.seconds[phase] += now - self._since
        for number, own in self._phases.items():
            self._own_s[number][own] += now - self._since
        self._since = now

    def line(self) -> str:
        """Return one line: the whole, and its parts in the order of a run."""
        self._pass()
        parts = [
            f"{phase} {duration(self.seconds[phase])}"
            for phase in (PLANNING, RAY, BUILDING, *WORDS.values(), BETWEEN)
            if self.seconds[phase] >= SHORTEST_S
        ]
        return f"Took {duration(self._since - self._began)}: {', '.join(parts)}"

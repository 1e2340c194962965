"""How far a build is: what the builder says of its phases, and how long such a plan took before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

BUILDING = "building the plan"
"""Step of a worker."""


class BuildProgress:
    """Passes on the innermost phase of a build and its steps.

    TensorRT 10 and later report phases within phases. How long each takes is not known, so no share
    of the whole is computed from them.

    Args:
        on_step: called with the step and a detail, such as "timing graph nodes, 12 of 157".
        last_s: seconds that building such a plan took before; None where unknown.
    """

    def __init__(self, on_step: Callable[[str, str], object], last_s: float | None) -> None:
        self._on_step = on_step
        self._last = "" if last_s is None else f"such a plan took {last_s:.0f} s"
        self._phases: dict[str, tuple[int, int]] = {}
        """Steps that are done and all steps of each open phase, the innermost last."""
        self._tell()

    def start(self, phase: str, steps: int) -> None:
        """Enter a phase of so many steps."""
        self._phases[phase] = (0, steps)
        self._tell()

    def step(self, phase: str, number: int) -> None:
        """Note that a step of a phase, counted from 0, is done."""
        if phase in self._phases:
            self._phases[phase] = (number + 1, self._phases[phase][1])
            self._tell()

    def finish(self, phase: str) -> None:
        """Leave a phase."""
        self._phases.pop(phase, None)
        self._tell()

    def _tell(self) -> None:
        now = ""
        if self._phases:
            phase, (done, steps) = next(reversed(self._phases.items()))
            now = f"{phase.lower()}, {done} of {steps}"
        self._on_step(BUILDING, "; ".join(filter(None, (now, self._last))))


def attach(trt: Any, config: Any, progress: BuildProgress) -> None:
    """Let a build report its phases, where the library does (10 and later)."""
    if not hasattr(config, "progress_monitor"):
        return

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # required by the binding

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.step(phase_name, step)
            return True  # go on building

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    config.progress_monitor = Monitor()

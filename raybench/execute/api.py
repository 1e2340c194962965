"""The Python interface: the same runs and plans as on the command line, as functions."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from raybench import gc_control
from raybench.config.compose import read
from raybench.errors import ConfigError
from raybench.execute.discovery import discover
from raybench.execute.finished_run import Run
from raybench.execute.lead import lead
from raybench.execute.progress_lines import ProgressLines
from raybench.execute.run import plan_request
from raybench.execute.stop_request import StopRequest
from raybench.planning.plan import Plan

if TYPE_CHECKING:
    from raybench.config.layers import Given
    from raybench.execute.events import Listener

Overrides: TypeAlias = Mapping[str, Any] | Sequence[str] | str | None

__all__ = ["Plan", "Run", "plan", "run"]


def run(
    experiment: str | os.PathLike[str] | None = None,
    overrides: Overrides = None,
    *,
    progress: bool = False,
) -> Run:
    """Measure an experiment and return its rows.

    Points that have final rows in the results folder are not measured again. A point that fails
    is a row with a status and a reason, not an exception. Ray is started and stopped, or a
    running cluster is joined, as on the command line.

        raybench.run(overrides={"model": "mine.onnx", "batch_size": 8})
        raybench.run("scaling", {"preset": "quick", "grid.batch_size": [1, 8]})
        raybench.run("experiment=scaling", ["preset=quick", "batch_size=[1,8]"])

    Args:
        experiment: name of an experiment or path of its YAML file; "experiment=" may precede it.
            None measures one point of the model in `overrides`.
        overrides: settings by key, with Python's values (text is taken as it is, and never as a list
            in brackets), or the words of the command line.
        progress: print a line when a trial starts and when it ends.

    Raises:
        UsageError: the request cannot be carried out; nothing was measured. ConfigError,
            ModelError, EngineUnavailable, ClusterError and ResultsError say in which respect.
        KeyboardInterrupt: after the rows of the running points were written as interrupted.
    """
    given = _given(experiment, overrides)
    with gc_control.paused():
        return lead(given, _command(given), LineDisplay(progress), StopRequest())


def plan(experiment: str | os.PathLike[str] | None = None, overrides: Overrides = None) -> Plan:
    """Return the points of an experiment, their order and the time they take; start nothing.

    Args:
        experiment: as `run` takes it.
        overrides: settings by key, or the words of the command line.

    Raises:
        UsageError: the request cannot be carried out; see `run`.
    """
    draft = read(_given(experiment, overrides))
    with discover(draft.cluster) as cluster:
        request = draft.resolve(cluster.devices, cluster.unavailable)
        return plan_request(request, cluster)


class LineDisplay:
    """Shows a run in lines on the standard output, or nowhere.

    Args:
        shown: whether lines are printed.
    """

    def __init__(self, shown: bool) -> None:
        self.line: Callable[[str], None] = _line_printer() if shown else _ignore

    @contextlib.contextmanager
    def progress(self, plan: Plan) -> Iterator[Listener]:
        """Show events in lines."""
        yield ProgressLines(plan, self.line).on_event


def _line_printer() -> Callable[[str], None]:
    """Return what prints a line, as the command line does."""
    from raybench.report.terminal.console import open_console, print_line

    return partial(print_line, open_console())


def _ignore(line: str) -> None:
    """Write nothing."""


def _given(experiment: str | os.PathLike[str] | None, overrides: Overrides) -> list[Given]:
    """Return the settings: words as they are, and keys with their values as plain Python data.

    Raises:
        ConfigError: for overrides that are neither.
    """
    given: list[Given] = []
    if experiment is not None:
        name = os.fspath(experiment) if isinstance(experiment, os.PathLike) else experiment
        if not isinstance(name, str):
            raise ConfigError(
                f"{name!r} is no experiment. Give a name, or the path of a YAML file."
            )
        given.append(("experiment", name.removeprefix("experiment=")))
    if isinstance(overrides, str):
        return [*given, overrides]
    if isinstance(overrides, Mapping):
        return [*given, *((str(key), _plain(value)) for key, value in overrides.items())]
    words: list[Any]
    try:
        words = list(overrides or ())
    except TypeError:  # neither a mapping nor a sequence
        words = [overrides]
    for word in words:
        if not isinstance(word, str):
            raise ConfigError(f"{word!r} is not key=value. Write for example 'trials=3'.")
    return [*given, *words]


def _plain(value: Any) -> Any:
    """Convert paths, NumPy's numbers and arrays, and whatever is like a tuple to plain data."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    try:
        return [_plain(item) for item in value]
    except TypeError:
        raise ConfigError(
            f"{value!r} is no value of a setting. Give text, numbers, lists or mappings."
        ) from None


def _command(given: Sequence[Given]) -> list[str]:
    """Return the words of a command line that says the same, for the run's manifest."""
    return [entry if isinstance(entry, str) else f"{entry[0]}={_text(entry[1])}" for entry in given]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)

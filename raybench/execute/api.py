"""The Python interface: the same runs and plans as on the command line, as functions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from raybench import gc_control
from raybench.config.compose import read
from raybench.errors import ConfigError
from raybench.execute.discovery import discover
from raybench.execute.progress_lines import ProgressLines, describe_run
from raybench.execute.run import (
    Run,
    close_run,
    execute,
    open_run,
    plan_request,
    start_run,
)
from raybench.execute.stop_request import StopRequest
from raybench.planning.plan import Plan

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
        overrides: settings by key, or the words of the command line.
        progress: print a line when a trial starts and when it ends.

    Raises:
        UsageError: the request cannot be carried out; nothing was measured. ConfigError,
            ModelError, EngineUnavailable, ClusterError and ResultsError say in which respect.
        KeyboardInterrupt: after the rows of the running points were written as interrupted.
    """
    words = _words(experiment, overrides)
    write_line = _line_printer() if progress else _ignore
    with gc_control.paused():
        draft = read(words)
        with discover(draft.cluster) as cluster:
            request = draft.resolve(cluster.devices, cluster.unavailable)
            context = open_run(request, cluster)
            for line in describe_run(context):
                write_line(line)
            lines = ProgressLines(context.plan, write_line)
            with start_run(context, words) as started, gc_control.frozen():
                failed = execute(context, started, lines.on_event, StopRequest())
        return close_run(context, failed)


def plan(experiment: str | os.PathLike[str] | None = None, overrides: Overrides = None) -> Plan:
    """Return the points of an experiment, their order and the time they take; start nothing.

    Args:
        experiment: as `run` takes it.
        overrides: settings by key, or the words of the command line.

    Raises:
        UsageError: the request cannot be carried out; see `run`.
    """
    draft = read(_words(experiment, overrides))
    with discover(draft.cluster) as cluster:
        request = draft.resolve(cluster.devices, cluster.unavailable)
        return plan_request(request, cluster)


def _line_printer() -> Callable[[str], None]:
    """Return what prints a line, as the command line does."""
    from raybench.report.terminal.console import open_console, print_line

    return partial(print_line, open_console())


def _ignore(line: str) -> None:
    """Write nothing."""


def _words(experiment: str | os.PathLike[str] | None, overrides: Overrides) -> list[str]:
    """Return the words of the command line that ask for the same."""
    words = []
    if experiment is not None:
        words.append(f"experiment={os.fspath(experiment).removeprefix('experiment=')}")
    if isinstance(overrides, str):
        return [*words, overrides]
    if isinstance(overrides, Mapping):
        return words + [f"{key}={_text(value)}" for key, value in _flat(overrides)]
    try:
        words += overrides or ()
    except TypeError:  # neither a mapping nor a sequence
        words.append(repr(overrides))
    for word in words:
        if not isinstance(word, str):
            raise ConfigError(f"{word!r} is not key=value. Write for example 'trials=3'.")
    return words


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of nested mappings by dotted key; an empty mapping is a value."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    """Return a value as the command line takes it: text as it is, all else as YAML."""
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    """Convert a path, a tuple-like or a NumPy number inside a list to plain data."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else list(value)

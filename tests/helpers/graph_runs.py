"""Run graphs as a worker would, each in a forked process, so that a crash is a result and not the end."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from raybench.errors import PointError, UsageError
from raybench.experiment import QUANTISED, MeasureSettings, ModelSettings, Point
from raybench.models import source
from raybench.models.cache import cache_dir
from raybench.models.prepare import prepare
from raybench.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

ROUNDED = "rounded"
"""Stands for an engine: the fp16 graph, judged by rounding every half tensor on the CPU."""

ENOUGH_S = 60


@dataclass(frozen=True)
class Row:
    """A graph in a precision on an engine."""

    path: Path
    precision: str
    engine: str
    settings: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 4


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Attributes:
        status: "ok", "refused" before anything starts, a status of PointError, "traceback" for any
            other exception, or "died" for a process that ended.
        sentence: of the error, or the notes.
        sqnr_db: fidelity; None where there is none.
    """

    status: str
    sentence: str = ""
    sqnr_db: float | None = None


@cache
def _server() -> ForkServerContext:
    """Return a server of processes that have imported what starts no threads of its own.

    ONNX Runtime and OpenVINO start some, without which a fork of them may wait for ever.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["raybench.worker", "onnx.version_converter", "ml_dtypes"])
    return context


def outcomes(rows: Sequence[Row], cache: Path) -> list[Outcome]:
    """Run rows of one graph one after another; a process that dies takes only the row that it was at."""
    found: list[Outcome] = []
    while len(found) < len(rows):
        found += _in_one_process(rows[len(found) :], cache)
    return found


def _in_one_process(rows: Sequence[Row], cache: Path) -> list[Outcome]:
    """Return the outcomes up to the one at which the process ended, that one included."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = _server().Process(target=_serve, args=(rows, str(cache), sender), daemon=True)
    process.start()
    sender.close()
    found: list[Outcome] = []
    with contextlib.suppress(EOFError):
        while len(found) < len(rows) and receiver.poll(2 * ENOUGH_S):
            found.append(receiver.recv())
    if len(found) < len(rows):
        process.kill()
        process.join()
        found.append(Outcome("died", f"exit code {process.exitcode}"))
    process.join()
    return found


def _serve(rows: Sequence[Row], cache: str, sender: Connection) -> None:
    os.environ["RAYBENCH_CACHE"] = cache
    for row in rows:
        faulthandler.dump_traceback_later(ENOUGH_S, exit=True)  # a hang says where
        sender.send(_outcome(row))


def _outcome(row: Row) -> Outcome:
    settings = ModelSettings(**row.settings)
    try:
        source.check(str(row.path), settings, [row.precision])
        if row.engine == ROUNDED:
            dialect = "s8s8" if row.precision in QUANTISED else None
            model = prepare(str(row.path), settings, row.precision, dialect, cache_dir())
            conversion = model.conversion
            return Outcome("ok", "; ".join(conversion.notes), conversion.rounded_sqnr_db)
        worker = Worker("graph")
        prepared = worker.prepare(_point(row, settings), 0, 0, 0)
        worker.close()
        near = prepared.comparison.fidelity
        return Outcome("ok", "; ".join(prepared.notes), near.sqnr_db if near else None)
    except UsageError as error:
        return Outcome("refused", str(error))
    except PointError as error:
        return Outcome(error.status, str(error))
    except BaseException as error:  # noqa: BLE001 - this is what must never happen
        return Outcome("traceback", f"{type(error).__name__}: {error}")


def _point(row: Row, settings: ModelSettings) -> Point:
    return Point(
        model=str(row.path),
        model_identity=source.identity(str(row.path), settings),
        model_settings=settings,
        precision=row.precision,
        batch_size=row.batch_size,
        workers=1,
        engine=row.engine,
        engine_options=(),
        inflight=1,
        transfers=True,
        device="cpu",
        memory_limit_bytes=None,
        measure=MeasureSettings(),
        preset="none",
    )

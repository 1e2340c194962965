"""The TensorRT library of this process, and the journal of its log.

There are two editions of one API: TensorRT itself, from 8.6 on, and TensorRT for RTX, which has the
API of TensorRT 11 and version numbers of its own.
"""

from __future__ import annotations

import importlib
import threading
from collections import deque
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raybench.errors import EngineUnavailable

LEAN_PACKAGES = ("tensorrt_lean", "tensorrt_lean_libs")
"""Packages with the lean runtime's library: the bindings in 8.6, one beside them later."""
LINES_KEPT = 500


@dataclass(frozen=True)
class Edition:
    """An edition of the library, which an engine is named after.

    Attributes:
        engine: name of the engine.
        product: name of the library.
        modules: Python modules that can be it, best first.
        oldest: oldest version that is supported.
        install: what to do where it is missing, a sentence.
    """

    engine: str
    product: str
    modules: tuple[str, ...]
    oldest: tuple[int, int]
    install: str


TENSORRT = Edition(
    "tensorrt",
    "TensorRT",
    # the full library first; the other two run plans but cannot build them
    ("tensorrt", "tensorrt_lean", "tensorrt_dispatch"),
    (8, 6),
    "Run pip install 'raybench[tensorrt]' (TensorRT 10 or newer; 8.6 with Python 3.10).",
)
RTX = Edition(
    "tensorrt_rtx",
    "TensorRT-RTX",
    # the wheels of the package index have the first; the one of NVIDIA's archive has the second
    ("tensorrt_rtx_bindings", "tensorrt_rtx"),
    (1, 4),
    "Run pip install 'raybench[tensorrt-rtx]' (CUDA 12) or 'raybench[tensorrt-rtx-cu13]'.",
)
_RTX_API = 11
"""Major version of TensorRT whose API TensorRT for RTX has."""


class Journal:
    """The last lines of TensorRT's log, oldest first; safe to write from any thread."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)

    def add(self, severity: str, message: str) -> None:
        """Add one line."""
        self._lines.append(f"{severity}: {message}")

    def lines(self) -> tuple[str, ...]:
        """Return the lines since the last `clear`."""
        return tuple(self._lines)

    def clear(self) -> None:
        """Remove all lines, at the start of another point."""
        self._lines.clear()


def installed(edition: Edition = TENSORRT) -> str | None:
    """Return the name of the first installed module of an edition, without importing it."""
    return next((name for name in edition.modules if _is_package(name)), None)


def missing(edition: Edition) -> str:
    """Return the sentence for an edition that is not installed."""
    return (
        f"Engine {edition.engine!r} needs the package {edition.modules[0]}, which is missing. "
        f"{edition.install}"
    )


def _is_package(name: str) -> bool:
    spec = find_spec(name)  # a folder that only happens to have the name has no origin
    return spec is not None and spec.origin is not None


def load(edition: Edition = TENSORRT) -> Any:
    """Import the module of an edition, full or runtime only.

    Raises:
        EngineUnavailable: there is none, it cannot be imported, or it is too old.
    """
    name = installed(edition)
    if name is None:
        raise EngineUnavailable(missing(edition))
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise EngineUnavailable(
            f"Engine {edition.engine!r} cannot import {name}: {error}. A library that it links is "
            "missing or of another version."
        ) from error
    if version(module) < edition.oldest:
        oldest = ".".join(map(str, edition.oldest))
        raise EngineUnavailable(
            f"Engine {edition.engine!r} needs {edition.product} {oldest} or newer, and this is "
            f"{module.__version__}. {edition.install}"
        )
    return module


def is_rtx(trt: Any) -> bool:
    """Return whether this is TensorRT for RTX, whose plans are for no one GPU."""
    return trt.__name__ in RTX.modules


def label(trt: Any) -> str:
    """Return name and version of a library, as the facts of plans have them."""
    name = RTX.product if is_rtx(trt) else trt.__name__  # its two modules are one library
    return f"{name} {trt.__version__}"


def api(trt: Any) -> int:
    """Return the major version of TensorRT whose calls and enumerations a module has."""
    return _RTX_API if is_rtx(trt) else version(trt)[0]


def lean(trt: Any) -> bool:
    """Return whether this is the lean runtime, which runs version-compatible plans by itself."""
    return str(trt.__name__).startswith("tensorrt_lean")


def dispatch(trt: Any) -> bool:
    """Return whether this is the dispatch runtime, which runs nothing without a lean one."""
    return str(trt.__name__).startswith("tensorrt_dispatch")


def lean_path() -> Path | None:
    """Return the library file of the lean runtime, which other runtimes can load."""
    for name in filter(_is_package, LEAN_PACKAGES):
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        files = sorted(Path(spec.origin).parent.glob("libnvinfer_lean.so*"))
        if files:
            return files[0]
    return None


def version(trt: Any) -> tuple[int, int]:
    """Return major and minor version of a module; of an edition, not of the API."""
    major, minor = str(trt.__version__).split(".")[:2]
    return int(major), int(minor)


_lock = threading.Lock()
_loggers: dict[int, tuple[Any, Any, Journal]] = {}


def logger(trt: Any) -> tuple[Any, Journal]:
    """Return this process's one logger for TensorRT, and the journal it writes.

    There is only one, because TensorRT keeps the first logger it is given until the process ends.
    """
    with _lock:
        if id(trt) not in _loggers:
            journal = Journal()
            _loggers[id(trt)] = (trt, _make_logger(trt, journal), journal)
        return _loggers[id(trt)][1:]


def _make_logger(trt: Any, journal: Journal) -> Any:
    kinds = trt.ILogger.Severity
    kept = {
        int(kinds.INTERNAL_ERROR): "ERROR",
        int(kinds.ERROR): "ERROR",
        int(kinds.WARNING): "WARNING",
    }

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            name = kept.get(int(severity))
            if name is not None:
                journal.add(name, message)

    return Logger()

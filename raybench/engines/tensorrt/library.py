"""The TensorRT library of this process, and the journal of its log."""

from __future__ import annotations

import importlib
import threading
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raybench.errors import EngineUnavailable

MODULES = ("tensorrt", "tensorrt_lean", "tensorrt_dispatch")
"""The full library first; the other two run plans but cannot build them."""
LEAN_PACKAGES = ("tensorrt_lean", "tensorrt_lean_libs")
"""Packages with the lean runtime's library: the bindings in 8.6, one beside them later."""
OLDEST = (8, 6)
INSTALL = "Run pip install 'raybench[tensorrt]' (TensorRT 10 or newer; 8.6 with Python 3.10)."
LINES_KEPT = 500


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


def installed() -> str | None:
    """Return the name of the first installed TensorRT module, without importing it."""
    return next((name for name in MODULES if _is_package(name)), None)


def _is_package(name: str) -> bool:
    spec = find_spec(name)  # a folder that only happens to have the name has no origin
    return spec is not None and spec.origin is not None


def load() -> Any:
    """Import the TensorRT module, full or runtime only.

    Raises:
        EngineUnavailable: there is none, it cannot be imported, or it is too old.
    """
    name = installed()
    if name is None:
        raise EngineUnavailable(
            f"Engine 'tensorrt' needs the package tensorrt, which is missing. {INSTALL}"
        )
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise EngineUnavailable(
            f"Engine 'tensorrt' cannot import {name}: {error}. A library that it links is missing "
            "or of another version."
        ) from error
    if version(module) < OLDEST:
        raise EngineUnavailable(
            f"Engine 'tensorrt' needs TensorRT {OLDEST[0]}.{OLDEST[1]} or newer, and this is "
            f"{module.__version__}. {INSTALL}"
        )
    return module


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
    """Return major and minor version of a TensorRT module."""
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

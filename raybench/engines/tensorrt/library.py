"""Library: which TensorRT this process has, and the journal of what it says."""

from __future__ import annotations

import importlib
import threading
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raybench.errors import EngineUnavailable

MODULES = ("tensorrt", "tensorrt_lean", "tensorrt_dispatch")
"""Full library first; the other two run plans but cannot build them."""
LEAN_PACKAGES = ("tensorrt_lean", "tensorrt_lean_libs")
"""Where pip puts the lean runtime's library: in the bindings of 8.6, beside them later."""
OLDEST = (8, 6)
INSTALL = "Run pip install 'raybench[tensorrt]' (TensorRT 10 or newer; 8.6 with Python 3.10)."
LINES_KEPT = 500


class Journal:
    """The last lines of TensorRT's log, oldest first; safe to write from any thread."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)

    def add(self, severity: str, message: str) -> None:
        """Keep one line."""
        self._lines.append(f"{severity}: {message}")

    def lines(self) -> tuple[str, ...]:
        """What was said since the last `clear`."""
        return tuple(self._lines)

    def clear(self) -> None:
        """Forget what was said, at the start of another point."""
        self._lines.clear()


def installed() -> str | None:
    """Name of the first TensorRT module that is installed; None without one. Imports nothing."""
    return next((name for name in MODULES if _is_package(name)), None)


def _is_package(name: str) -> bool:
    """A folder that only happens to have the name has no origin."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None


def load() -> Any:
    """The TensorRT module, full or runtime only.

    Raises:
        EngineUnavailable: without one, with one that cannot be imported, or with one too old.
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
    """Whether this module is the lean runtime, which runs version-compatible plans by itself."""
    return str(trt.__name__).startswith("tensorrt_lean")


def dispatch(trt: Any) -> bool:
    """Whether this module is the dispatch runtime, which runs nothing without a lean one."""
    return str(trt.__name__).startswith("tensorrt_dispatch")


def lean_path() -> Path | None:
    """The library file of the lean runtime, which other runtimes can load; None without one."""
    for name in filter(_is_package, LEAN_PACKAGES):
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        found = sorted(Path(spec.origin).parent.glob("libnvinfer_lean.so*"))
        if found:
            return found[0]
    return None


def version(trt: Any) -> tuple[int, int]:
    """Major and minor version of a TensorRT module."""
    major, minor = str(trt.__version__).split(".")[:2]
    return int(major), int(minor)


_lock = threading.Lock()
_held: dict[int, tuple[Any, Any, Journal]] = {}


def logger(trt: Any) -> tuple[Any, Journal]:
    """This process's one logger for TensorRT, and the journal that it writes.

    TensorRT keeps the first logger it is given for the life of the process, so there is one.
    """
    with _lock:
        if id(trt) not in _held:
            journal = Journal()
            _held[id(trt)] = (trt, _make_logger(trt, journal), journal)
        return _held[id(trt)][1:]


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

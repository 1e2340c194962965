"""raybench: how fast a machine or a cluster runs inference, and how that grows.

`load` reads what an experiment left behind; `Experiment` and `Point` are what it is made of. All
are imported when they are first used: `import raybench` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from raybench.version import __version__

if TYPE_CHECKING:
    from raybench.experiment import Experiment, Point
    from raybench.results.load import load

__all__ = ["Experiment", "Point", "__version__", "load"]

_HOMES = {
    "Experiment": "raybench.experiment",
    "Point": "raybench.experiment",
    "load": "raybench.results.load",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'raybench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

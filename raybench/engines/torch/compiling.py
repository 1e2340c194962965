"""torch.compile: what it needs on a machine, and its caches."""

from __future__ import annotations

import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raybench.errors import Unsupported

FOLDER = "torchinductor"
"""In the node's cache: what torch.compile has generated and built."""


def compiler_missing(kind: str) -> str | None:
    """Return what torch.compile lacks on this machine for a kind of device; None where it has all.

    It compiles C++ for CPU cores; for GPUs Triton compiles kernels, and C to launch them.
    """
    if kind == "gpu":
        if find_spec("triton") is None:
            return "the package triton, which is missing. Run pip install triton"
        compilers = (os.environ.get("CC"), "gcc", "clang", "cc")
        names, language = [name for name in compilers if name], "C"
    else:
        names, language = [os.environ.get("CXX") or "g++"], "C++"
    if not any(map(shutil.which, names)):
        return (
            f"a {language} compiler, and {' and '.join(names)} is not here. Install one, e.g. "
            f"apt-get install {'gcc' if kind == 'gpu' else 'g++'}"
        )
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.is_file():
        return f"Python's headers, and {header} is not here. Install them, e.g. apt-get install python3-dev"
    return None


def refuse_without_compiler(kind: str) -> None:
    """Raise Unsupported where torch.compile cannot work for a kind of device."""
    missing = compiler_missing(kind)
    if missing is not None:
        raise Unsupported(f"engine.compile=true needs {missing}, or use engine.compile=false.")


def compiled(module: Any, cache_dir: Path, kind: str, freeze: bool) -> Any:
    """Return a module that is compiled at its first call, whole or not at all.

    Args:
        module: to compile, for the shapes that it is called with.
        cache_dir: of the node.
        kind: of device.
        freeze: whether its weights may be taken as constants, on a core.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(
        cache_dir / FOLDER
    )  # before the import, which sets it
    import torch
    from torch._inductor import config

    config.freezing = freeze and kind == "cpu"
    if kind == "cpu":
        config.compile_threads = 1  # the worker has one core, and no processes beside it
    torch._dynamo.reset()  # what it compiled for the last point does not count against a limit
    return torch.compile(module, fullgraph=True, dynamic=False)

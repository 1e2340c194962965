"""Kernels that TensorRT for RTX compiles where a plan is loaded, and the node's cache of them.

Not yet run on a GPU.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from raybench.engines.tensorrt import chip, library
from raybench.paths import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from raybench.engines.base import Load
    from raybench.engines.tensorrt.device import Context

FOLDER = "tensorrt/kernels"
"""Folder of compiled kernels below the node's cache, beside its plans."""

COMPILED = "The kernels were compiled for this GPU while the plan was loaded, within load_s."
FOUND = "The kernels came from this node's cache: an earlier load has compiled them."
"""Notes of a row."""


class Kernels:
    """The kernels of a plan that holds them ready: there is nothing to compile.

    Args:
        engine: the library's engine of the plan.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def execution_context(self) -> Any:
        """Return an execution context of the plan, or None where the library refuses it."""
        return self._engine.create_execution_context()

    def keep(self) -> tuple[str, ...]:
        """Store what was compiled since the start; return notes for the row."""
        return ()


class CompiledKernels(Kernels):
    """The kernels of a plan of TensorRT for RTX, compiled at its first batches.

    Whoever runs the plan holds them until the end: the library does not keep its cache alive.

    What the cache holds is offered to the library, which takes it only for the same version, GPU
    and compiler, and a driver that is not older; else it compiles again.

    Args:
        trt: the module.
        engine: the library's engine of the plan.
        path: file of the cache; None to do without.
    """

    def __init__(self, trt: Any, engine: Any, path: Path | None) -> None:
        super().__init__(engine)
        self._trt = trt
        self._path = path
        self._configs: list[Any] = []
        self._found = _read(path)
        self._cache = self._config().create_runtime_cache()
        if self._found and not self._cache.deserialize(self._found):
            self._found = b""

    def _config(self) -> Any:
        config = self._engine.create_runtime_config()
        # else the first batches run, and are captured, on kernels for any shape
        strategies = self._trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        config.cuda_graph_strategy = self._trt.CudaGraphStrategy.DISABLED  # the runner captures
        return config

    @override
    def execution_context(self) -> Any:
        config = self._config()
        config.set_runtime_cache(self._cache)
        self._configs.append(config)
        return self._engine.create_execution_context(config)

    @override
    def keep(self) -> tuple[str, ...]:
        memory = self._cache.serialize()
        compiled = b"" if memory is None else bytes(memory)
        if compiled and compiled == self._found:
            return (FOUND,)
        if compiled and self._path is not None:
            with contextlib.suppress(OSError):  # a full disk costs the next load its time only
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._path, compiled)
        return (COMPILED,)


def of(context: Context, engine: Any, plan_key: str, load: Load) -> Kernels:
    """Return the kernels of a plan on the current device.

    Args:
        context: the device.
        engine: the library's engine of the plan.
        plan_key: name of the plan in the cache; the library's version is part of it.
        load: what to run.
    """
    if not library.is_rtx(context.trt):
        return Kernels(engine)
    if not load.options.kernel_cache:
        return CompiledKernels(context.trt, engine, None)
    driver = chip.driver(load.device) or context.cuda.versions()[0]
    gpu = context.cuda.identity(load.device.index)["name"]
    name = re.sub(r"[^\w.-]+", "_", f"{plan_key} {gpu} {driver}")
    return CompiledKernels(context.trt, engine, load.cache_dir / FOLDER / f"{name}.kernels")


def _read(path: Path | None) -> bytes:
    try:
        return b"" if path is None else path.read_bytes()
    except OSError:
        return b""

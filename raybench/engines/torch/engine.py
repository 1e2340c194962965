"""PyTorch as an engine, on CPU cores and on GPUs.

The graph of the point becomes a torch.fx module by a table of operators, operator by operator: what the
other engines are given, and not the model as its authors wrote it in PyTorch. It has run on an H200 with
PyTorch 2.11 for CUDA 13.
"""

from __future__ import annotations

import importlib
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from raybench.engines import refusals
from raybench.engines.base import EngineBase, EngineInfo, EngineTraits, KeepsState, ReadsHostInputs
from raybench.engines.tensorrt import chip
from raybench.engines.torch import compiling
from raybench.engines.torch.calls import CALLS
from raybench.engines.torch.settings import TorchSettings
from raybench.errors import Unsupported
from raybench.experiment import AS_IS, QUANTISED
from raybench.machine import sysfs

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Self

    from raybench.engines.base import DeviceSpans, Load
    from raybench.machine.devices import Device

MISSING = (
    "Engine 'torch' needs the package torch, which is missing. Run pip install 'raybench[torch]'; for "
    "CPU cores alone a build without CUDA is smaller by gigabytes."
)
_TENSOR_CORES_FROM = (8, 0)
"""Compute capability from which GPUs have tf32 and bf16."""
_CPU_FLAGS = {
    "bf16": frozenset({"avx512_bf16", "amx_bf16"}),
    "fp16": frozenset({"avx512_fp16", "amx_fp16"}),
}
"""Instruction sets of which a CPU has one, or it would compute in fp32."""


class TorchEngine(EngineBase, KeepsState, ReadsHostInputs):
    """One module of PyTorch at a static batch, eager or compiled."""

    traits = EngineTraits(
        name="torch",
        settings=TorchSettings,
        device_kinds=("gpu", "cpu"),
        extra="torch",
        bf16_dialect="native",
    )

    @classmethod
    @override
    def unavailable(cls) -> str | None:
        """Return why PyTorch cannot run here."""
        return MISSING if find_spec("torch") is None else None

    @classmethod
    @override
    def unsupported(cls, precision: str, device: Device, transfers: bool) -> str | None:
        """Refuse precisions that this device lacks or would compute as another one."""
        if precision in QUANTISED:
            return (
                "Engine 'torch' has no operators with quantisation (Q/DQ). Use engine=onnxruntime, "
                "openvino or tensorrt, or precision=fp32."
            )
        if device.kind == "gpu":
            return _unsupported_on_gpu(precision, device) or _unloadable()
        return _unsupported_on_core(precision, device, transfers) or _unloadable()

    @classmethod
    @override
    def load(cls, load: Load) -> Self:
        """Convert the graph, compile it if asked for, and run it once."""
        return cls(load)

    def __init__(self, load: Load) -> None:
        from raybench.engines.torch import start

        if load.options.compile:
            compiling.refuse_without_compiler(load.device.kind)
        if load.options.cuda_graphs and load.device.kind != "gpu":
            raise Unsupported(
                "engine.cuda_graphs=true launches kernels of a GPU, and a CPU core has none. "
                "Use engine.cuda_graphs=false."
            )
        began = time.perf_counter()
        self._names = [spec.name for spec in load.model.outputs]
        self._runner: Any = None
        started = CALLS.run("build", lambda: start.start(load))
        self._runner = started.runner
        self.info = EngineInfo(
            version=started.version,
            build_s=started.build_s,
            load_s=time.perf_counter() - began - started.build_s,
            device_memory_bytes=started.device_memory_bytes,
            device_clock=load.device.kind == "gpu",
            threads=load.options.threads if load.device.kind == "cpu" else None,
            notes=started.notes,
        )

    @override
    def submit(self, sequence: int) -> None:
        """Compute the batch on a core; enqueue it on a GPU."""
        self._runner.submit(sequence)

    @override
    def collect(self, sequence: int) -> DeviceSpans | None:
        """Block until the batch is done; return its spans by a GPU's own clock."""
        spans: DeviceSpans | None = self._runner.collect(sequence)
        return spans

    @override
    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return copies of the last batch's outputs, by name."""
        return dict(zip(self._names, self._runner.outputs(), strict=True))

    @override
    def host_inputs(self, index: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return the pool's own memory on a core, and on a GPU the pinned memory that is copied."""
        inputs: dict[str, np.ndarray[Any, Any]] = self._runner.host_inputs(index)
        return inputs

    @classmethod
    @override
    def kept_itemsize(cls, precision: str, dtype: np.dtype[Any]) -> int:
        """Return the bytes of an element of the state: bf16 for fp32 where the graph computes in it."""
        return 2 if (precision, dtype.name) == ("bf16", "float32") else dtype.itemsize

    @override
    def restart(self) -> None:
        """Put the first state back."""
        self._runner.restart()

    @override
    def close(self) -> None:
        """Wait for what is in flight, then free everything."""
        if self._runner is not None:
            self._runner.close()
        self._runner = None


def _unloadable() -> str | None:
    """Load the library, and return why that fails.

    A worker on a core limits its memory after this, and the library's code alone maps 3 GiB.
    """
    try:
        importlib.import_module("torch")
    except ModuleNotFoundError:
        return (
            None
            if find_spec("torch") is None
            else "PyTorch lacks a module of its own. Install it anew."
        )
    except (ImportError, OSError) as error:
        return f"PyTorch cannot be loaded: {error}. Install it anew, for this machine."
    return None


def _unsupported_on_core(precision: str, device: Device, transfers: bool) -> str | None:
    if not transfers:
        return refusals.NO_BUS
    if precision in ("fp32", AS_IS):
        return None
    flags = _CPU_FLAGS.get(precision)
    if flags is None:
        able = [name for name, needed in _CPU_FLAGS.items() if needed & sysfs.cpu_flags()]
        return f"PyTorch on a CPU would run {precision} as fp32. Use precision={' or '.join(['fp32', *able])}."
    if not flags & sysfs.cpu_flags():
        return f"{device.name} has no {precision} arithmetic. Use precision=fp32."
    return None


def _unsupported_on_gpu(precision: str, device: Device) -> str | None:
    reason = refusals.declared_gpu(device)
    if reason is not None:
        return reason
    if precision not in ("fp32", "tf32", "fp16", "bf16", AS_IS):
        return (
            f"Engine 'torch' has no precision {precision}. Use precision=fp32, tf32, fp16 or bf16."
        )
    capability = chip.capability(device)
    if precision in ("tf32", "bf16") and capability is not None and capability < _TENSOR_CORES_FROM:
        return (
            f"{device.name} has compute capability {'.'.join(map(str, capability))}, and {precision} "
            "arithmetic comes with 8.0. Use precision=fp32 or fp16."
        )
    return None

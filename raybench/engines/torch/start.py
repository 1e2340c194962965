"""From a load to a module that runs on its device."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from raybench.engines.torch.compiling import compiled
from raybench.engines.torch.conversion import convert
from raybench.engines.torch.cpu_runner import CpuRunner
from raybench.engines.torch.cuda import TorchCuda
from raybench.engines.torch.cuda_runner import CudaRunner
from raybench.errors import EngineFailure, Unsupported
from raybench.models.graph.operations import read_operations

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.engines.base import Load

_IMAGE_RANK = 4


@dataclass(frozen=True)
class Started:
    """A module that is ready for its stream.

    Attributes:
        runner: computes batches.
        build_s: time that converting took, and compiling where asked for; seconds.
        version: of PyTorch.
        device_memory_bytes: that it holds on a GPU; None on a core.
        notes: for the row.
    """

    runner: Any
    build_s: float
    version: str
    device_memory_bytes: int | None = None
    notes: tuple[str, ...] = ()


def start(load: Load) -> Started:
    """Convert the graph of a load, put it on the device and run it once."""
    allow_tf32(load.model.precision == "tf32")
    return _on_gpu(load) if load.device.kind == "gpu" else _on_core(load)


def _on_core(load: Load) -> Started:
    torch.set_num_threads(load.options.threads)
    began = time.perf_counter()
    module = _module(load, torch.device("cpu"))
    runner = CpuRunner(module, load, lay_out(load))
    built = time.perf_counter()
    runner.submit(0)  # compiles, and prepares memory
    runner.restart()
    ready = time.perf_counter()
    build_s = ready - began if load.options.compile else built - began
    return Started(runner, build_s, torch.__version__)


def _on_gpu(load: Load) -> Started:
    if not torch.cuda.is_available():
        raise Unsupported(_no_cuda())
    cuda = TorchCuda(load.device.index)
    _require_same_device(cuda.uuid, load)
    cuda.limit_memory(load.memory_limit_bytes)
    free, began = cuda.memory()[0], time.perf_counter()
    module = _module(load, cuda.device)
    built = time.perf_counter()
    runner = CudaRunner(cuda, module, load, lay_out(load))
    ready = time.perf_counter()
    build_s = ready - began if load.options.compile else built - began
    held = max(free - cuda.memory()[0], 0)
    return Started(runner, build_s, torch.__version__, held)


def _no_cuda() -> str:
    if torch.version.cuda is None:
        return (
            f"PyTorch {torch.__version__} is built without CUDA. Install a build with CUDA for GPUs, or "
            "use device=cpu."
        )
    return (
        f"PyTorch {torch.__version__} sees no CUDA device in this process: it is built for CUDA "
        f"{torch.version.cuda}. Check nvidia-smi, the driver's version and CUDA_VISIBLE_DEVICES."
    )


def _require_same_device(uuid: str | None, load: Load) -> None:
    """Raise EngineFailure if telemetry would watch another GPU than the one that computes."""
    watched = load.device.uuid
    if None in (uuid, watched) or uuid == watched or str(watched).startswith("MIG-"):
        return
    raise EngineFailure(
        f"PyTorch's device {load.device.index} is {uuid}, and the worker was given {watched}. "
        "Set CUDA_DEVICE_ORDER=PCI_BUS_ID where Ray is started."
    )


def _module(load: Load, device: Any) -> Any:
    """Return the module of a load with its weights on a device."""
    model, options = load.model, load.options
    module = convert(model, read_operations(model.path), load.batches.batch_size).to(device)
    if options.channels_last:
        module = module.to(memory_format=torch.channels_last)
    if not options.compile:
        return module
    return compiled(module, load.cache_dir, load.device.kind, options.freeze)


def lay_out(load: Load) -> Callable[[Any], Any]:
    """Return what puts an input into the layout of the module's images."""
    if not load.options.channels_last:
        return lambda tensor: tensor
    return lambda tensor: (
        tensor.contiguous(memory_format=torch.channels_last)
        if tensor.dim() == _IMAGE_RANK
        else tensor
    )


def allow_tf32(allowed: bool) -> None:
    """Let products of fp32 compute in tf32, or not; convolutions would by default."""
    backends, word = torch.backends, "tf32" if allowed else "ieee"
    if hasattr(backends, "fp32_precision"):  # from 2.9 on, and the older names warn there
        backends.fp32_precision = word
        backends.cuda.matmul.fp32_precision = word
        backends.cudnn.conv.fp32_precision = word
        backends.cudnn.rnn.fp32_precision = word
        return
    backends.cuda.matmul.allow_tf32 = allowed
    backends.cudnn.allow_tf32 = allowed

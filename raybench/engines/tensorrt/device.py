"""The GPU and the library that a plan is built for and run on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.engines.tensorrt import failures, library, settings
from raybench.engines.tensorrt.cuda import Cuda
from raybench.errors import EngineFailure, Unsupported
from raybench.machine import nvml

if TYPE_CHECKING:
    from raybench.engines.base import Load
    from raybench.engines.tensorrt.library import Journal
    from raybench.machine.devices import Device


@dataclass
class Context:
    """A current CUDA device with TensorRT on it; nothing of a plan is loaded yet.

    Attributes:
        cuda: the CUDA runtime, on the device.
        trt: the TensorRT module.
        journal: what TensorRT logs.
        runtime: TensorRT's runtime, which loads plans.
    """

    cuda: Cuda
    trt: Any
    journal: Journal
    runtime: Any


def prepare_device(load: Load) -> Context:
    """Load the libraries and make the device current; allocates nothing on it yet.

    Raises:
        EngineUnavailable: a library is missing or too old.
        Unsupported: an option is out of range, or there is no device.
    """
    settings.check(load.options)
    trt = library.load()
    cuda = Cuda()
    if not cuda.device_count():
        raise Unsupported(  # before any object of TensorRT: without a device they crash
            "Engine 'tensorrt' sees no CUDA device in this process. "
            "Check nvidia-smi and CUDA_VISIBLE_DEVICES."
        )
    cuda.use(load.device.index)
    logger, journal = library.logger(trt)
    journal.clear()
    runtime = _runtime(trt, logger, journal, load.options.version_compatible)
    cuda.stage = "build"
    return Context(cuda, trt, journal, runtime)


def _runtime(trt: Any, logger: Any, journal: Journal, compatible: bool) -> Any:
    """Return the library's runtime, for the dispatch runtime the lean one that it loads.

    No code comes from a plan: version-compatible ones are built without their runtime.
    """
    dispatch = library.dispatch(trt)
    if (dispatch or library.lean(trt)) and not compatible:
        raise Unsupported(
            f"{trt.__name__} runs only plans that were built with engine.version_compatible=true. "
            "Set that, or install the full tensorrt."
        )
    runtime = trt.Runtime(logger)
    if not dispatch:
        return runtime
    path = library.lean_path()
    if path is None:
        raise Unsupported(
            f"{trt.__name__} runs plans by the library of the package tensorrt_lean, which is "
            "missing. Install tensorrt_lean of the version that built the plans."
        )
    lean = runtime.load_runtime(str(path))
    if lean is None:
        raise failures.of_library("load", journal.lines(), f"load {path.name}")
    return lean


def plan_facts(context: Context, load: Load) -> dict[str, Any]:
    """Return the facts of this machine that decide a plan.

    Raises:
        EngineFailure: CUDA's device is another GPU than the worker was given.
    """
    index = load.device.index
    facts = context.cuda.identity(index)
    _require_same_device(facts["uuid"], load.device)
    return {
        "library": _library(context.trt, load.options.version_compatible),
        "gpu": facts["name"],
        "multiprocessors": facts["multiprocessors"],
        "gpu_memory_bytes": facts["memory_bytes"],
        "capability": list(context.cuda.capability(index)),
        "driver": _driver(load.device) or context.cuda.versions()[0],
    }


def _library(trt: Any, compatible: bool) -> str:
    """Return the part of the library's name and version that decides a plan.

    Of a version-compatible plan this is the major version alone, so that the lean runtime finds
    what the full library of another minor version has built.
    """
    if compatible:
        return f"TensorRT {library.version(trt)[0]}"
    return f"{trt.__name__} {trt.__version__}"


def _require_same_device(uuid: str | None, device: Device) -> None:
    """Raise EngineFailure if telemetry would watch another GPU than the one that computes.

    The runtime may count devices in an order of its own. MIG slices are not checked: some runtimes
    report their board's UUID.
    """
    if uuid is None or device.uuid is None or device.uuid.startswith("MIG-"):
        return
    if uuid != device.uuid:
        raise EngineFailure(
            f"CUDA's device {device.index} is {uuid}, and Ray gave {device.visible!r}, which the "
            f"driver knows as {device.uuid}. Set CUDA_DEVICE_ORDER=PCI_BUS_ID where Ray is started."
        )


def capability(device: Device) -> tuple[int, int] | None:
    """Return the compute capability of a GPU by the driver, e.g. (9, 0)."""
    gpu = _gpu(device)
    if gpu is None or gpu.compute_capability is None:
        return None
    major, minor = gpu.compute_capability.split(".")
    return int(major), int(minor)


def _driver(device: Device) -> str | None:
    gpu = _gpu(device)
    return None if gpu is None else gpu.driver_version


def _gpu(device: Device) -> nvml.Gpu | None:
    return next((gpu for gpu in nvml.inventory() if gpu.uuid == device.uuid), None)

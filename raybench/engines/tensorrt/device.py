"""The GPU and the library that a plan is built for and run on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.engines.tensorrt import chip, failures, library, settings, targets
from raybench.engines.tensorrt.cuda import Cuda
from raybench.errors import EngineFailure, Unsupported

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


def prepare_device(load: Load, edition: library.Edition = library.TENSORRT) -> Context:
    """Load the libraries and make the device current; allocates nothing on it yet.

    Raises:
        EngineUnavailable: a library is missing or too old.
        Unsupported: an option is out of range, or there is no device.
        EngineFailure: CUDA's device is another GPU than the worker was given.
    """
    settings.check(load.options, edition.engine)
    trt = library.load(edition)
    cuda = Cuda()
    if not cuda.device_count():
        raise Unsupported(  # before any object of TensorRT: without a device they crash
            f"Engine {edition.engine!r} sees no CUDA device in this process. "
            "Check nvidia-smi and CUDA_VISIBLE_DEVICES."
        )
    cuda.use(load.device.index)
    _require_same_device(cuda.identity(load.device.index)["uuid"], load.device)
    logger, journal = library.logger(trt)
    journal.clear()
    runtime = _runtime(trt, logger, journal, load.options.version_compatible)
    cuda.stage = "build"
    return Context(cuda, trt, journal, runtime)


def load_builder(load: Load, edition: library.Edition) -> Any:
    """Load the library alone, for builds that need no GPU.

    Raises:
        EngineUnavailable: it is missing or too old.
        Unsupported: an option is out of range.
    """
    settings.check(load.options, edition.engine)
    trt = library.load(edition)
    library.logger(trt)[1].clear()
    return trt


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


def target_facts(trt: Any, load: Load) -> dict[str, Any]:
    """Return what decides a plan of TensorRT for RTX: it is for a target, wherever it was built."""
    return {"library": library.label(trt), "target": targets.of(load.options, load.device)}


def plan_facts(context: Context, load: Load) -> dict[str, Any]:
    """Return the facts of this machine that decide a plan."""
    if library.is_rtx(context.trt):
        return target_facts(context.trt, load)
    index = load.device.index
    facts = context.cuda.identity(index)
    return {
        "library": _library(context.trt, load.options.version_compatible),
        "gpu": facts["name"],
        "multiprocessors": facts["multiprocessors"],
        "gpu_memory_bytes": facts["memory_bytes"],
        "capability": list(context.cuda.capability(index)),
        "driver": chip.driver(load.device) or context.cuda.versions()[0],
    }


def _library(trt: Any, compatible: bool) -> str:
    """Return the part of the library's name and version that decides a plan.

    Of a version-compatible plan this is the major version alone, so that the lean runtime finds
    what the full library of another minor version has built.
    """
    if compatible:
        return f"TensorRT {library.version(trt)[0]}"
    return library.label(trt)


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

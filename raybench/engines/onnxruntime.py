"""ONNX Runtime: the second engine on CPU cores and, with its CUDA provider, an engine on GPUs.

The CUDA provider was tested on an H100 (ONNX Runtime 1.31.1, CUDA 13, cuDNN 9). AlexNet in fp16 gives
wrong outputs there, which the fidelity in its rows shows.
"""

from __future__ import annotations

import logging
import platform
import re
import tempfile
import time
from bisect import bisect_left
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import override

from raybench.engines import refusals
from raybench.engines.base import (
    EngineBase,
    EngineInfo,
    EngineTraits,
    KeepsState,
    Layer,
    ReadsHostInputs,
    ReportsLayers,
    TakesPartBatches,
)
from raybench.engines.host_state import HostState, slot_count
from raybench.engines.onnxruntime_layers import read_layers
from raybench.errors import PointError, Unsupported
from raybench.experiment import AS_IS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from typing_extensions import Self

    from raybench.engines.base import Load
    from raybench.machine.devices import Device

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OnnxRuntimeSettings:
    """Options of the engine `onnxruntime`.

    Attributes:
        threads: number of threads that compute one operator; they share the worker's core.
        arena: whether the library keeps freed memory for the next batch.
    """

    threads: int = 1
    arena: bool = True


class OnnxRuntimeEngine(EngineBase, ReportsLayers, TakesPartBatches, KeepsState, ReadsHostInputs):
    """One session on the device's provider, with inputs and outputs bound once for each batch.

    On a GPU the library runs one batch at a time and waits for it. It copies inputs where they are bound,
    from unpinned memory, so with transfers each batch is bound where it is submitted.

    A batch that is not full is bound there, too (3 us on a core), and runs at its own size.
    """

    traits = EngineTraits(
        name="onnxruntime",
        settings=OnnxRuntimeSettings,
        device_kinds=("cpu", "gpu"),
        int8_dialect="u8s8",
        rewrites_lrn=True,
    )

    @classmethod
    @override
    def unavailable(cls) -> str | None:
        """Return why ONNX Runtime cannot run here."""
        if find_spec("onnxruntime") is None:
            return (
                "Engine 'onnxruntime' needs the package onnxruntime, which is missing. "
                "Run pip install onnxruntime."
            )
        return None

    @classmethod
    @override
    def unsupported(cls, precision: str, device: Device, transfers: bool) -> str | None:
        """Refuse precisions that a provider would silently replace by another one."""
        if device.kind == "gpu":
            return _unsupported_on_gpu(precision, device)
        if not transfers:
            return refusals.NO_BUS
        if precision not in ("fp32", "int8", AS_IS):
            instead = "int8 with an fp32 rest" if precision == "int8_fp16" else "fp32"
            return (
                f"ONNX Runtime on {device.name} would run {precision} as {instead}. "
                "Use precision=fp32, or int8 for a model that can be quantised."
            )
        return None

    @classmethod
    @override
    def load(cls, load: Load) -> Self:
        """Open the session and bind every batch of the pool."""
        kind: Any = OnnxRuntimeWithState if load.model.state else cls
        return cast("Self", kind(load))

    def __init__(self, load: Load) -> None:
        import onnxruntime as ort

        self._resident = load.device.kind == "gpu" and not load.transfers
        self._load = load  # the runtime reads the batches' memory and does not own it
        began = time.perf_counter()
        self._session = _session(load, _options(load.options))
        built = time.perf_counter()
        # a graph may name an output twice, which is bound once
        self._names = list(dict.fromkeys(output.name for output in self._session.get_outputs()))
        stay = load.model.kept_outputs if load.device.kind == "gpu" else ()
        self._places = {
            name: "cuda" if self._resident or name in stay else "cpu" for name in self._names
        }
        self._held: dict[tuple[int, str], Any] = {}  # inputs on the GPU
        self._copies_in = load.device.kind == "gpu" and load.transfers
        slots = load.inflight + 1 if self._copies_in else slot_count(load)
        self._bindings = [self._bind(self._session, i) for i in range(slots)]
        self._last = self._bindings[0]
        self._submitted = list(self._bindings)
        self._spare: list[Any] = []
        self.sizes = self._prepare_parts()
        self.info = EngineInfo(
            version=ort.__version__,
            build_s=built - began,
            load_s=time.perf_counter() - built,
            threads=load.options.threads,
            notes=refusals.half_on_cpu(load.model) if _computes_half_in_fp32(load) else (),
        )

    def _bind(self, session: Any, index: int) -> Any:
        binding = session.io_binding()
        self._bind_inputs(binding, index)
        _bind_outputs(binding, self._places)
        return binding

    def _bind_inputs(self, binding: Any, index: int) -> None:
        for name, array in self._load.batches.batch(index % self._load.batches.count).items():
            if self._resident:
                self._held[index, name] = value = _on_gpu(array)
                binding.bind_ortvalue_input(name, value)
            else:
                binding.bind_cpu_input(name, array)

    def _prepare_parts(self) -> Sequence[int]:
        """Return the sizes that parts run at: on a core all, on a GPU those that were run before."""
        load, full = self._load, self._load.batches.batch_size
        if not load.takes_parts:
            return (full,)
        self._spare = [self._session.io_binding() for _ in range(load.inflight + 1)]
        try:
            # a graph may hold its batch as a number; cuDNN looks for kernels of each shape once
            for size in load.part_sizes:
                part = self._bind_part(0, 0, size)
                _CALLS.run("run", partial(self._session.run_with_iobinding, part))
        except PointError:
            logger.info("This graph takes no smaller batch", exc_info=True)
            return (full,)
        return range(1, full + 1) if load.device.kind == "cpu" else load.part_sizes

    def _bind_part(self, sequence: int, index: int, size: int) -> Any:
        binding = self._spare[sequence % len(self._spare)]
        for name, array in self._load.batches.part(index, size).items():
            if self._resident:
                address = self._held[index, name].data_ptr()
                binding.bind_input(name, "cuda", 0, array.dtype, array.shape, address)
            else:
                binding.bind_cpu_input(name, array)
        _bind_outputs(binding, self._places)
        return binding

    @override
    def submit(self, sequence: int) -> None:
        """Run the batch: the library has no queue of its own."""
        index = sequence % len(self._bindings)
        self._submitted[index] = binding = self._bindings[index]
        if self._copies_in:
            _CALLS.run("run", partial(self._bind_inputs, binding, sequence))
        _CALLS.run("run", lambda: self._session.run_with_iobinding(binding))

    @override
    def submit_part(self, sequence: int, items: int) -> None:
        """Run the first items of the batch, and no others where the engine has their number."""
        size = self.sizes[bisect_left(self.sizes, items)]
        if size == self.sizes[-1]:
            self.submit(sequence)
            return
        index, batch = sequence % len(self._bindings), sequence % self._load.batches.count
        self._submitted[index] = binding = self._bind_part(sequence, batch, size)
        _CALLS.run("run", lambda: self._session.run_with_iobinding(binding))

    @override
    def collect(self, sequence: int) -> None:
        """Remember the batch; it is done already."""
        self._last = self._submitted[sequence % len(self._bindings)]

    @override
    def host_inputs(self, index: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return the pool's own memory."""
        return self._load.batches.batch(index)

    @override
    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return copies of the last batch's outputs, by name."""
        arrays = self._last.copy_outputs_to_cpu()
        return {name: array.copy() for name, array in zip(self._names, arrays, strict=True)}

    @override
    def layers(self, batches: int) -> tuple[Layer, ...]:
        """Return the median time of each node, from a second session with the library's profiler."""
        with tempfile.TemporaryDirectory() as folder:
            options = _options(self._load.options)
            options.enable_profiling = True
            options.profile_file_prefix = f"{folder}/profile"
            session = _session(self._load, options)
            binding = self._bind(session, 0)
            for _ in range(1 + batches):
                session.run_with_iobinding(binding)
            return read_layers(session.end_profiling())

    @override
    def close(self) -> None:
        """Drop the session."""
        self._bindings = self._submitted = self._spare = []
        self._held = {}
        self._last = None
        self._session = None


class OnnxRuntimeWithState(OnnxRuntimeEngine):
    """One session whose batches renew inputs of the next, on CPU cores."""

    def __init__(self, load: Load) -> None:
        if load.device.kind == "gpu":
            raise Unsupported(refusals.NO_ROWS_ON_GPU)
        self._state = _CALLS.run("load", lambda: HostState(load))
        super().__init__(load)

    @override
    def _bind(self, session: Any, index: int) -> Any:
        """Bind a slot: its batch of the pool, and its state."""
        binding = super()._bind(session, index)
        for name, array in self._state.inputs.items():
            binding.bind_cpu_input(name, array)
        for name, array in self._state.outputs(index).items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return binding

    @override
    def submit(self, sequence: int) -> None:
        """Run the batch, and write the new rows into the rings."""
        super().submit(sequence)
        self._state.renew(sequence)

    @override
    def restart(self) -> None:
        """Put the first state back."""
        self._state.restart()

    @override
    def close(self) -> None:
        """Drop everything."""
        super().close()
        self._state.free()


_CUDA = "CUDAExecutionProvider"
_UNKNOWN_OP = (
    "ONNX Runtime does not know operator {op} of this graph. Use another engine, a newer "
    "onnxruntime, or export the model with other operators."
)
_CALLS = refusals.LibraryCalls(
    "ONNX Runtime",
    (Exception,),  # its own exceptions derive from Exception alone
    re.compile(r"requested (?:buffer of size|bytes of) (\d+)"),
    {
        re.compile("CUDNN_STATUS_NOT_SUPPORTED"): (
            "cuDNN has no kernel for a layer of this shape and precision (often a tensor of more "
            "than 2^31 elements). Use a smaller batch_size."
        ),
        re.compile(r"implementation for (?P<op>\S+) node with name '(?P<node>[^']*)'"): (
            "ONNX Runtime has no kernel for operator {op} (node {node!r}) with these types on this "
            "device. Use another engine or precision, or export the model with other types."
        ),
        re.compile(r"(?P<op>\S+)\(-?\d+\) is not a registered"): _UNKNOWN_OP,
        re.compile(r"No Op registered for (?P<op>\S+)"): _UNKNOWN_OP,
        re.compile("NOT_IMPLEMENTED"): (
            "ONNX Runtime cannot run an operator of this graph as it stands. Use another engine, or "
            "export the model with other operators."
        ),
        re.compile(r"Opset \d+ is under development"): (
            "This onnxruntime does not know the graph's opset. Install a newer one, or export the "
            "model with an older opset."
        ),
    },
)


def _options(settings: OnnxRuntimeSettings) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = settings.arena
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _session(load: Load, options: Any) -> Any:
    import onnxruntime as ort

    path, providers = str(load.model.path), [_provider(load)]
    if load.device.kind == "gpu":
        ort.set_default_logger_severity(3)  # else each session warns of a missing plugin
        ort.preload_dlls()  # CUDA and cuDNN as installed by pip
    session = _CALLS.run("build", lambda: ort.InferenceSession(path, options, providers=providers))
    name = providers[0][0]
    if name not in session.get_providers():
        raise Unsupported(
            f"ONNX Runtime fell back from {name} to {session.get_providers()}: its CUDA or cuDNN "
            "libraries did not load. Install them: pip install 'onnxruntime-gpu[cuda,cudnn]'."
        )
    return session


def _computes_half_in_fp32(load: Load) -> bool:
    """Return whether the CPU provider has no half kernels here and casts; on Arm it has some."""
    return load.device.kind == "cpu" and platform.machine() in ("x86_64", "AMD64")


def _provider(load: Load) -> tuple[str, dict[str, Any]]:
    """Return the name and options of the device's provider."""
    if load.device.kind == "cpu":
        return "CPUExecutionProvider", {}
    options = {
        "device_id": load.device.index,
        "use_tf32": int(load.model.precision == "tf32"),  # on by default
        "arena_extend_strategy": "kSameAsRequested",
    }
    if load.memory_limit_bytes is not None:
        options["gpu_mem_limit"] = load.memory_limit_bytes
    return _CUDA, options


def _bind_outputs(binding: Any, places: dict[str, str]) -> None:
    for name, place in places.items():
        binding.bind_output(name, place)


def _on_gpu(array: np.ndarray[Any, Any]) -> Any:
    import onnxruntime as ort

    return _CALLS.run("input", lambda: ort.OrtValue.ortvalue_from_numpy(array, "cuda", 0))


def _unsupported_on_gpu(precision: str, device: Device) -> str | None:
    import onnxruntime as ort

    reason = refusals.declared_gpu(device)
    if reason is not None:
        return reason
    if _CUDA not in ort.get_available_providers():
        return (
            "ONNX Runtime is installed without its CUDA provider. Run pip uninstall onnxruntime "
            "and pip install 'onnxruntime-gpu[cuda,cudnn]', or use device=cpu."
        )
    if precision not in ("fp32", "tf32", "fp16", AS_IS):
        instead = "fp16" if precision == "int8_fp16" else "fp32"
        return (
            f"ONNX Runtime on a GPU would run {precision} as {instead}. "
            "Use precision=fp32, tf32 or fp16."
        )
    return None

"""A plan on the fake GPU that runs an ONNX graph by ONNX Runtime, for models of any inputs."""

from __future__ import annotations

import ctypes
import json
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from helpers.fake_gpu import (
    FakeConfig,
    FakeContext,
    FakeEngine,
    FakeGpu,
    FakeProfile,
    FakeTrt,
    Stream,
)
from typing_extensions import override

if TYPE_CHECKING:
    from raybench.models.model import Model

KINDS = {"float32": "FLOAT", "float16": "HALF", "int64": "INT64"}


class PlanEngine(FakeEngine):
    def __init__(self, gpu: FakeGpu, facts: dict[str, Any], model: Model, narrows: bool) -> None:
        super().__init__(gpu, facts)
        self.model = model
        self.session = onnxruntime.InferenceSession(
            str(model.path), providers=["CPUExecutionProvider"]
        )
        self.specs = {spec.name: spec for spec in (*model.inputs, *model.outputs)}
        self.num_io_tensors = len(self.specs)
        self.narrows = narrows

    def get_tensor_name(self, index: int) -> str:
        return list(self.specs)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        kind = KINDS[self.specs[name].dtype]
        return SimpleNamespace(name="INT32" if self.narrows and kind == "INT64" else kind)

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in {spec.name for spec in self.model.inputs} else "out"

    def create_execution_context(self) -> PlanContext | None:
        if self.gpu.used + self.device_memory_size > self.gpu.memory_bytes:
            return None
        return PlanContext(self.gpu, self.facts, self)


class PlanContext(FakeContext):
    engine: PlanEngine

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        axis = self.engine.specs[name].batch_axis
        if axis is not None:
            self.batch = shape[axis]
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self.batch is not None
        dims = self.engine.specs[name].shape
        return tuple(dim if isinstance(dim, int) else self.batch for dim in dims)

    def execute_async_v3(self, stream: int) -> bool:
        gpu, engine, addresses = self.gpu, self.engine, dict(self.addresses)
        if gpu.streams[stream].capture is not None and not self.ran:
            return False
        self.ran = True
        self.unreported = self.profiler is not None

        def work(on: Stream) -> None:
            gpu.touch(on, self.scratch, 64, True, "the scratch memory of a context")
            given = {}
            for spec in engine.model.inputs:
                array = self.array(spec.name, addresses[spec.name])
                gpu.touch(on, addresses[spec.name], array.nbytes, False, f"the read of {spec.name}")
                given[spec.name] = array.astype(spec.dtype)
            names = [spec.name for spec in engine.model.outputs]
            for name, values in zip(names, engine.session.run(names, given), strict=True):
                array = self.array(name, addresses[name])
                gpu.touch(on, addresses[name], array.nbytes, True, f"the write of {name}")
                array[...] = values

        return gpu.enqueue(stream, work) == 0

    def array(self, name: str, address: int) -> np.ndarray[Any, Any]:
        """Return the tensor at an address of the device."""
        kind = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64"}
        dtype = np.dtype(kind[self.engine.get_tensor_dtype(name).name])
        shape = self.get_tensor_shape(name)
        raw: Any = (ctypes.c_byte * (math.prod(shape) * dtype.itemsize)).from_address(address)
        return np.frombuffer(raw, dtype).reshape(shape)


class PlanTrt(FakeTrt):
    """TensorRT that runs one model.

    Attributes:
        narrows: whether it reads and writes 64-bit integers as 32-bit ones, as 8.6 does.
    """

    narrows = False

    def __init__(self, gpu: FakeGpu, model: Model) -> None:
        super().__init__(gpu)
        self.model = model

    @override
    def _deserialize(self, plan: bytes) -> PlanEngine:
        return PlanEngine(self.gpu, json.loads(plan), self.model, self.narrows)

    @override
    def Builder(self, logger: Any) -> Any:
        self._needs_device(logger)
        tensors = [
            SimpleNamespace(
                name=spec.name,
                shape=tuple(-1 if dim == "N" else dim for dim in spec.shape),
                is_shape_tensor=False,
            )
            for spec in self.model.inputs
        ]
        return SimpleNamespace(
            create_network=lambda flags: SimpleNamespace(
                flags=flags, num_inputs=len(tensors), get_input=tensors.__getitem__
            ),
            create_builder_config=FakeConfig,
            create_optimization_profile=FakeProfile,
            build_serialized_network=self._build,
        )

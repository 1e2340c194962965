"""Buffers: the pinned copy of the pool holds each batch where its address says."""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from raybench.engines.tensorrt.buffers import Buffers, Port
from raybench.engines.tensorrt.cuda import Cuda
from raybench.models.items.batches import BatchPool
from raybench.models.model import TensorSpec

if TYPE_CHECKING:
    from helpers.fake_gpu import FakeTrt

SPECS = (
    TensorSpec("image", "float32", ("N", 3)),
    TensorSpec("state", "float32", (2, "N", 5)),
    TensorSpec("scale", "float32", (1, 3)),
    TensorSpec("rate", "int64", ()),
)


@pytest.mark.parametrize("min_bytes", [1, 600])
def test_every_batch_is_pinned_wherever_its_batch_axis_is(trt: FakeTrt, min_bytes: int) -> None:
    batches = BatchPool(SPECS, 4, 0, {"rate": (7, 7)}, min_bytes=min_bytes)
    kinds = [
        np.dtype("float16") if spec.dtype == "float32" else np.dtype("int64") for spec in SPECS
    ]
    ports = [
        Port(spec.name, kind, spec.with_batch(4), is_input=True)
        for spec, kind in zip(SPECS, kinds, strict=True)
    ]
    buffers = Buffers(Cuda(), ports, transfers=True)
    count = batches.count - 1
    for index, addresses in enumerate(buffers.pin(batches, count)):
        for port in ports:
            raw = ctypes.string_at(addresses[port.name], port.nbytes)
            pinned = np.frombuffer(raw, port.dtype, math.prod(port.shape)).reshape(port.shape)
            expected = batches.batch(index)[port.name].astype(port.dtype)
            assert np.array_equal(pinned, expected)
    buffers.free()

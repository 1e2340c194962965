"""A stream that is fed on the fake GPU: what is copied and computed is what the threads have written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.fake_gpu import WEIGHTS

from raybench.engines.tensorrt.engine import TensorRTEngine
from raybench.machine import devices
from raybench.measure.fed_stream import FedStream
from raybench.measure.feeder import Feeder, FeedingPlan
from raybench.models.items.jpegs import Jpegs

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers.fake_gpu import FakeGpu, FakeTrt

    from raybench.engines.base import Load

IMAGES, BATCHES = 3, 12


class Numbers:
    """Writes the number of an image as an item."""

    library = "fake 1.0"

    def decode(self, jpeg: bytes, item: Any) -> None:
        item[...] = jpeg[0]


@pytest.mark.parametrize("inflight", [1, 2, 3])
@pytest.mark.parametrize("graphs", [False, True])
def test_every_batch_computes_the_images_that_were_decoded_for_it(
    gpu: FakeGpu,
    trt: FakeTrt,
    make_load: Callable[..., Load],
    monkeypatch: pytest.MonkeyPatch,
    inflight: int,
    graphs: bool,
) -> None:
    monkeypatch.setattr(devices, "pin_thread", lambda cpu: None)
    engine = TensorRTEngine.load(make_load(IMAGES, inflight, cuda_graphs=graphs))
    buffers = [engine.host_inputs(index)["x"] for index in range(5)]
    images = [bytes([number]) for number in range(1, 8)]
    plan = FeedingPlan(Jpegs(images, ["image"] * 7, ""), Numbers(), (0, 1))
    stream = FedStream(engine, Feeder(plan, buffers), IMAGES, inflight)
    collect, computed = engine.collect, []

    def collect_and_look(sequence: int) -> Any:
        spans = collect(sequence)
        computed.append(engine.outputs()["y"].copy())
        if sequence == BATCHES - 1:
            stream.halt()
        return spans

    monkeypatch.setattr(engine, "collect", collect_and_look)
    stream.run(time.perf_counter_ns(), 2**62)
    numbers = [1 + number % 7 for number in range(BATCHES * IMAGES)]
    expected = np.reshape(numbers, (BATCHES, IMAGES)) * WEIGHTS.sum()
    np.testing.assert_allclose(computed[:BATCHES], expected, rtol=1e-6)
    assert gpu.races == []
    engine.close()

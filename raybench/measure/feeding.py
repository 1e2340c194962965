"""Puts together what feeds an engine with images: its buffers, the images, their decoder and the cores.

On an H200 engines `torch` and `tensorrt` have been fed by it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from raybench.engines.base import ReadsHostInputs
from raybench.errors import Unsupported
from raybench.experiment import NO_PIPELINE
from raybench.machine import devices
from raybench.machine.feeding_cores import feeding_cores
from raybench.measure.fed_stream import FedStream
from raybench.measure.feeder import Feeder, FeedingPlan
from raybench.measure.running_stream import RunningStream
from raybench.models import source
from raybench.models.items.jpegs import best_decoder, image_layout, synthetic_jpegs, user_jpegs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.engines.base import EngineBase, Load
    from raybench.experiment import Point
    from raybench.measure.sensors import Sensors
    from raybench.models.model import Model, TensorSpec

AHEAD = 2
"""Buffers beside those of the batches in flight: one that is filled and one that is being filled."""


class Fed(NamedTuple):
    """What feeds a worker's engine.

    Attributes:
        feeder: fills its batches; None where it has its inputs.
        cpus: that the feeder's threads are pinned to.
        batch_s: shortest time in which they fill a batch, from one image; seconds.
        notes: for the row, a sentence each.
    """

    feeder: Feeder | None = None
    cpus: tuple[int, ...] = ()
    batch_s: float = 0.0
    notes: tuple[str, ...] = ()


NOT_FED = Fed()


def inputs_of(point: Point, model: Model) -> tuple[TensorSpec, ...]:
    """Return what a model is fed; with a pipeline also for an engine that reads no graph."""
    if point.pipeline == NO_PIPELINE or model.inputs:
        return model.fed_inputs
    return source.check(point.model, point.model_settings).inputs


def buffers_bytes(point: Point, specs: Sequence[TensorSpec]) -> int | None:
    """Return the size of a pool with a buffer for each batch that is on its way; None without a pipeline.

    No two batches of a pool of that size share an item, so that each can be filled while others run.
    """
    if point.pipeline == NO_PIPELINE:
        return None
    sizes = [math.prod(s.with_batch(point.batch_size)) * np.dtype(s.dtype).itemsize for s in specs]
    return (point.inflight + AHEAD) * sum(sizes)


def fed_by(
    point: Point,
    load: Load,
    engine: EngineBase,
    seed: int,
    sharers: int,
    allowed_cpus: Sequence[int],
) -> Fed:
    """Return what feeds an engine, and pin the rest of this process; nothing without a pipeline.

    Args:
        point: that is measured.
        load: that the engine was loaded with.
        engine: to feed.
        seed: of the images.
        sharers: workers of the point on this node.
        allowed_cpus: logical CPUs that the process began with.

    Raises:
        Infeasible: the node has too few cores.
        Unsupported: the engine does not read its inputs where they could be decoded to.
        ModelError: the user's images cannot be used.
        Refused: the first of the images cannot be decoded.
    """
    if point.pipeline == NO_PIPELINE:
        return NOT_FED
    if not isinstance(engine, ReadsHostInputs):
        raise Unsupported(
            f"Engine {point.engine!r} cannot be fed: it does not say where in memory it reads its inputs. "
            "Use another engine, or pipeline=none."
        )
    pool, layout = load.batches, image_layout(point.model, load.batches.specs)
    (spec,) = pool.specs
    buffers = [engine.host_inputs(index)[spec.name] for index in range(pool.count)]
    path = point.model_settings.inputs
    jpegs = user_jpegs(path, seed + load.rank) if path else synthetic_jpegs(seed, layout.channels)
    part = load.rank % sharers
    cores = feeding_cores(load.device, point.cores or 1, part, sharers, allowed_cpus)
    devices.pin(list(cores.engine_cpus))
    first = load.rank * point.batch_size
    feeder = Feeder(FeedingPlan(jpegs, best_decoder(layout), cores.cpus, first), buffers)
    batch_s = feeder.image_s() * point.batch_size / len(cores.cpus)
    return Fed(feeder, cores.cpus, batch_s, (jpegs.note, *cores.notes))


def running_fed_stream(
    point: Point, engine: EngineBase, sensors: Sensors, start_ns: int, block_ns: int, feeder: Feeder
) -> RunningStream:
    """Return a stream that is fed; the arguments are those of `RunningStream`."""
    stream = FedStream(engine, feeder, point.batch_size, point.inflight)
    return RunningStream(point, engine, sensors.gpu, start_ns, block_ns, stream)

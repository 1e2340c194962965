"""The graph that an engine is given for a point: in the precision and dialect that the device runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.engines import refusals
from raybench.experiment import QUANTISED
from raybench.machine import devices
from raybench.models.cache import cache_dir
from raybench.models.model import Model
from raybench.models.prepare import prepare
from raybench.models.source import refuse_other

if TYPE_CHECKING:
    from raybench.engines.base import EngineBase
    from raybench.experiment import Point
    from raybench.machine.devices import Device


def graph_for(point: Point, engine_class: type[EngineBase], device: Device) -> Model:
    """Return the model of a point, made or found in this node's cache; by name alone if not read.

    Raises:
        PointError: the model cannot have this precision or batch.
    """
    traits = engine_class.traits
    int8 = traits.int8_dialect
    if int8 == "u8s8" and device.kind == "cpu" and devices.saturates_int8():
        int8 = "u8s7"
    dialect = {**dict.fromkeys(QUANTISED, int8), "bf16": traits.bf16_dialect}.get(point.precision)
    if not traits.reads_graph:
        return Model.named(point.model, point.precision, dialect)
    settings, folder = point.sized_settings, cache_dir()
    refuse_other(point.model, point.model_settings, point.model_identity)
    model = prepare(
        point.model, settings, point.precision, dialect, folder, rewrite_lrn=traits.rewrites_lrn
    )
    model.refuse_batch(point.batch_size)
    if model.state:
        refusals.refuse_state(point, engine_class)
    return model

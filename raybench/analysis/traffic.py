"""Bytes that an item moves through memory and over the link, from what rows say of its graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raybench.analysis.cells import Cell

WEIGHT_BYTES = {
    "fp32": 4,
    "tf32": 4,
    "bf16": 2,
    "fp16": 2,
    "int8": 1,
    "int8_fp16": 1,
    "int8_weights": 1,
    "fp8": 1,
}
"""Bytes of a weight by precision; of int8 most weights."""
INPUT_BYTES = 4
"""Bytes of a number of an input, where rows do not say them: of fp32, as networks take it."""
CACHED_BYTES = 2**26
"""A batch that moves less than this may find it in the last-level cache, whatever memory can."""
_ACTIVATION_BYTES = {"bf16": 2, "fp16": 2}
"""Bytes of a number that operators hand on, by precision; 4 in all others, where some may have fewer."""


@dataclass(frozen=True)
class Traffic:
    """Bytes of memory's traffic that a batch needs on one engine.

    Attributes:
        weights: of all layers, read once; rows gathered from tables are left out.
        cache: keys and values of a decoder, read by a step and written by a prefill.
        crossing: inputs read and outputs written.
        handed_on: what operators hand on, written and read once each, as no engine needs it that fuses
            operators or finds it in a cache; None where unknown.
    """

    weights: float
    cache: float
    crossing: float
    handed_on: float | None

    @property
    def least(self) -> float:
        """What a batch needs in any case, if nothing stays in a cache from batch to batch."""
        return self.weights + self.cache + self.crossing

    @property
    def most(self) -> float | None:
        """The same and all that operators hand on; None where unknown."""
        return None if self.handed_on is None else self.least + self.handed_on


def traffic(cell: Cell) -> Traffic | None:
    """Return the traffic of a batch; None where weights or inputs are unknown."""
    weights, crossing, batch = _weights(cell), bytes_in(cell), cell.series.batch_size
    if weights is None or crossing is None or not batch:
        return None
    out = cell.newest.get("output_bytes_per_item") or 0
    numbers = cell.newest.get("activations_per_item")
    size = _ACTIVATION_BYTES.get(cell.series.precision or "", 4)
    return Traffic(
        weights,
        float(cell.newest.get("kv_cache_bytes") or 0),
        crossing + out * batch,
        None if numbers is None else 2.0 * numbers * size * batch,
    )


def _weights(cell: Cell) -> float | None:
    """Return the bytes of all weights but tables, in the type that the precision keeps them in."""
    parameters, stored = cell.newest.get("parameters"), cell.newest.get("weight_bytes")
    tables = cell.newest.get("table_parameters") or 0
    size = WEIGHT_BYTES.get(cell.series.precision or "")
    if parameters is None:
        return None
    if size is None:
        return None if stored is None or tables else float(stored)
    by_type = float((parameters - tables) * size)
    return by_type if stored is None else min(by_type, float(stored))


def bytes_in(cell: Cell) -> float | None:
    """Return the bytes of a batch's inputs, without what the device keeps; None where unknown."""
    batch, of_item = cell.series.batch_size, cell.newest.get("input_bytes_per_item")
    if of_item is not None and batch:
        return float(of_item * batch)
    elements = _input_elements(cell.newest.get("input_shape"))
    return None if elements is None else float(elements * INPUT_BYTES)


def _input_elements(shapes: str | None) -> int | None:
    """Return the numbers in a batch of all inputs, from a text such as "data:8x3x224x224"."""
    if not shapes:
        return None
    total = 0
    for shape in shapes.split(";"):
        product = 1
        for size in shape.rpartition(":")[2].split("x"):
            if size != "scalar" and not size.isdecimal():
                return None
            product *= 1 if size == "scalar" else int(size)
        total += product
    return total

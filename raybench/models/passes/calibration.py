"""Ranges of int8 activations: what the fp32 graph computes on items that no measurement streams.

Real items are an exception: they are those of the measurement, in another order.

The range from the lowest to the highest value holds everything and spends its 256 steps on a few
outliers; a range that cuts them off has finer steps. Which is better depends on the network, so each
is tried and judged on further items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.models.fidelity import CAP_DB, fidelity, same_floats
from raybench.models.graph.cpu_run import run_graph, runs
from raybench.models.items.batches import calibration_batches

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from raybench.models.conversion import Fp32Graph

    Array = np.ndarray[Any, Any]
    Range = tuple[float, float]

METHODS = {
    "minmax": 100.0,
    "percentile 99.999": 99.999,
    "percentile 99.99": 99.99,
    "percentile 99.9": 99.9,
}
"""Percentage of an activation's values that lies within its range, by name of the method."""

BATCHES, JUDGED_BATCHES = 4, 4
"""Batches that ranges come from, and further ones that judge them."""

BATCH_SIZES = (2, 1)
"""Items in each; one where the nodes hold a batch of one, though the inputs leave it open."""


@dataclass(frozen=True)
class _Ends:
    """The lowest and the highest values of an activation, as many as the methods need.

    Attributes:
        low: shape (k,), unordered.
        high: shape (k,), unordered.
        size: number of values seen.
    """

    low: Array
    high: Array
    size: int

    @classmethod
    def of(cls, values: Array, keep: int) -> _Ends:
        flat = values.reshape(-1)
        if flat.size <= 2 * keep:
            return cls(flat, flat, flat.size)
        parted = np.partition(flat, (keep, flat.size - keep - 1))
        return cls(parted[:keep].copy(), parted[-keep:].copy(), flat.size)

    def with_more(self, other: _Ends) -> _Ends:
        low = np.concatenate([self.low, other.low])
        high = np.concatenate([self.high, other.high])
        return _Ends(low, high, self.size + other.size)

    def range(self, percentage: float) -> Range:
        """Return the range that holds this percentage of the values, cut evenly at both ends."""
        beyond = int(self.size * (100.0 - percentage) / 200.0)
        return float(np.sort(self.low)[beyond]), float(np.sort(self.high)[-1 - beyond])


@dataclass(frozen=True)
class Calibration:
    """Values of the fp32 graph on calibration items.

    Attributes:
        ends: of each activation, by name.
        inputs: batches that judge a method.
        outputs: of the fp32 graph for these.
        softmax_outputs: names of outputs that are probabilities.
    """

    ends: Mapping[str, _Ends]
    inputs: Sequence[Mapping[str, Array]]
    outputs: Sequence[Mapping[str, Array]]
    softmax_outputs: Collection[str]

    def ranges(self, method: str) -> dict[str, Range]:
        """Return the range of each activation by one of `METHODS`."""
        return {name: ends.range(METHODS[method]) for name, ends in self.ends.items()}

    def sqnr_db(self, path: Path) -> float:
        """Return the fidelity of an int8 graph on this CPU, mean over the batches that judge."""
        names, outputs_of_graph = run_graph(path, self.inputs)
        found = []
        for values, expected in zip(outputs_of_graph, self.outputs, strict=True):
            actual = dict(zip(names, values, strict=True))
            near = fidelity(same_floats(expected, actual), actual, self.softmax_outputs)
            found.append(CAP_DB if near is None else near.sqnr_db)
        return sum(found) / len(found)


def observe(graph: Fp32Graph, source: Path, names: Collection[str]) -> Calibration:
    """Run the fp32 graph on calibration items and keep what the methods need of its values.

    Args:
        graph: whose items are drawn.
        source: file of the same graph, whose nodes may have changed.
        names: activations that int8 needs a range for; those that are not fp32 are left out.
    """
    import onnx

    bare = onnx.load(source, load_external_data=False)
    outputs = [value.name for value in bare.graph.output]
    del bare  # the run has a copy of the weights of its own
    for size in BATCH_SIZES:
        batches = calibration_batches(
            graph.inputs, graph.ranges, BATCHES + JUDGED_BATCHES, size, graph.given
        )
        try:
            return _observed(graph, source, names, outputs, batches)
        except Exception:
            if size == BATCH_SIZES[-1]:
                raise
    raise AssertionError  # the last one returns or raises


def _observed(
    graph: Fp32Graph,
    source: Path,
    names: Collection[str],
    outputs: Sequence[str],
    batches: Sequence[Mapping[str, Array]],
) -> Calibration:
    """Return what the fp32 graph computes on these batches, as `observe` does."""
    import onnx

    inside = [name for name in names if name not in {spec.name for spec in graph.inputs}]
    beyond = (100.0 - min(METHODS.values())) / 200.0
    ends: dict[str, _Ends] = {}
    judged = []
    wanted = list(dict.fromkeys([*inside, *outputs]))
    for index, values in enumerate(runs(lambda: onnx.load(source), batches, wanted, graph.big)):
        if index >= BATCHES:
            comparable = (name for name in outputs if name not in graph.drawn_outputs)
            judged.append({name: values[name] for name in comparable})
            continue
        for name in names:
            value = values[name] if name in values else batches[index][name]
            if value.dtype != np.float32 or value.size == 0:
                continue
            new = _Ends.of(value, 1 + math.ceil(BATCHES * value.size * beyond))
            ends[name] = ends[name].with_more(new) if name in ends else new
    return Calibration(ends, batches[BATCHES:], judged, graph.softmax_outputs)

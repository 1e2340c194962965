"""Which layers explain that a reduced precision is not faster than the next wider one.

Libraries fuse and name layers by precision, so layers are compared by the nodes of the graph that
their names hold: those that share a node make a group, whose times are added on each side. What is
quantised, cast or laid out anew for a node belongs to it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from raybench.analysis.cell_ratios import ratio_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from raybench.analysis.cells import Cell
    from raybench.analysis.estimate import Estimate
    from raybench.analysis.series import Series

_RANK = {
    "fp32": 0,
    "tf32": 1,
    "bf16": 2,
    "fp16": 2,
    "int8": 3,
    "int8_fp16": 3,
    "int8_weights": 3,
    "fp8": 3,
}
"""Order of width; of equal ones the faster counts as the next wider."""

_LEAST = 0.01
"""A ratio without interval that is this close to 1 is no difference."""

_BETWEEN = re.compile(r"\s*\|\|\s*|\s+\+\s+|[(),\[\]{}]|\.{3}")
"""What stands between the names of nodes in the name of a fused layer."""
_AROUND = re.compile(
    r"^(Reformatting CopyNode for (Input|Output) Tensor \d+ to |fused )"
    r"|(_token_\d+|_(Dequantize|Quantize)Linear(_\d+)?|_output_\d+|_nchwc|_nhwc|_half|_cast|_quant(ized)?"
    r"|/(WithoutBiases|Dequantization)\w*|[./](relu|Relu|weight|bias|skip))+$"
)
"""What libraries and passes put around the name of a node."""
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
"""Nodes of a layer as TensorRT 10 and later report them beside its name."""
_NO_NODES = frozenset({"PWN", "ForeignNode", "Transpose", "ReorderInput", "ReorderOutput"})


@dataclass(frozen=True)
class LayerDifference:
    """The layers of both precisions that compute the same nodes.

    Attributes:
        layers: the nodes, in order of execution.
        time_ms: of the reduced precision; None if no layer of it is named so.
        wider_time_ms: of the wider one; None likewise.
    """

    layers: str
    time_ms: float | None
    wider_time_ms: float | None

    @property
    def difference_ms(self) -> float:
        """Time that the reduced precision takes beyond the wider one."""
        return (self.time_ms or 0.0) - (self.wider_time_ms or 0.0)


@dataclass(frozen=True)
class SlowerPrecision:
    """A reduced precision that is not faster than the next wider one, all else equal.

    Attributes:
        series: of the reduced precision.
        wider: the other precision.
        ratio: items_per_s over that of the wider one.
        layers: largest difference first; empty if the layers of one side were not timed.
    """

    series: Series
    workers: int | None
    wider: str
    ratio: Estimate
    layers: tuple[LayerDifference, ...]


def slower_precisions(
    points: Iterable[Sequence[Cell]], layers: pa.Table | None
) -> tuple[SlowerPrecision, ...]:
    """Return every precision that is slower than the next wider one.

    Args:
        points: the cells of each point, which differ in the precision alone.
        layers: the table `layers`; None if there is none.
    """
    found = []
    for members in points:
        for cell in members:
            wider = _next_wider(cell, members)
            ratio = ratio_to(cell, wider)
            if wider is None or not _is_slower(ratio):
                continue
            sides = [_timed(each, layers) for each in (cell, wider)]
            differences = tuple(_differences(*sides)) if all(sides) else ()
            name = str(wider.series.precision)
            found.append(SlowerPrecision(cell.series, cell.workers, name, ratio, differences))
    return tuple(found)


def _next_wider(cell: Cell, members: Sequence[Cell]) -> Cell | None:
    own = _RANK.get(cell.series.precision or "", 0)
    wider = [
        (_RANK[each.series.precision or ""], each.mean or 0.0, number)
        for number, each in enumerate(members)
        if each.ok and _RANK.get(each.series.precision or "", own) < own
    ]
    return members[max(wider)[2]] if wider else None


def _is_slower(ratio: Estimate) -> bool:
    if ratio.value is None:
        return False
    return ratio.hi < 1 if ratio.hi is not None else ratio.value < 1 - _LEAST


def _timed(cell: Cell, layers: pa.Table | None) -> list[dict[str, Any]]:
    """Return the layers of a cell's newest trial that has any, in order of execution."""
    if layers is None or not layers.num_rows:
        return []
    mine = pc.and_(
        pc.equal(layers["point_id"], cell.point_id),
        pc.equal(layers["environment_id"], cell.series.environment_id),
    )
    rows = layers.filter(mine).to_pylist()
    newest = max(((row["run_id"], row["trial"]) for row in rows), default=None)
    rows = [row for row in rows if (row["run_id"], row["trial"]) == newest]
    return sorted(rows, key=lambda row: int(row["layer"]))


def _differences(
    rows: Sequence[dict[str, Any]], wider_rows: Sequence[dict[str, Any]]
) -> list[LayerDifference]:
    """Return the groups of layers of both sides, largest difference first."""
    nodes = [_nodes(row) for row in (*rows, *wider_rows)]
    group_of = _groups(nodes)
    names: dict[int, dict[str, None]] = defaultdict(dict)
    times: dict[int, list[float | None]] = defaultdict(lambda: [None, None])
    for number, row in enumerate((*rows, *wider_rows)):
        group, side = group_of[number], int(number >= len(rows))
        names[group] |= dict.fromkeys(nodes[number])
        times[group][side] = (times[group][side] or 0.0) + float(row["time_ms"] or 0.0)
    found = [LayerDifference(" + ".join(names[group]), *times[group]) for group in times]
    return sorted(found, key=lambda each: -each.difference_ms)


def _groups(nodes: Sequence[Sequence[str]]) -> list[int]:
    """Return the number of each layer's group: the first layer that it is joined to by nodes."""
    group_of = list(range(len(nodes)))

    def first(number: int) -> int:
        while group_of[number] != number:
            number = group_of[number]
        return number

    seen: dict[str, int] = {}
    for number, names in enumerate(nodes):
        for name in names:
            ends = sorted((first(number), first(seen.setdefault(name, number))))
            group_of[ends[1]] = ends[0]
    return [first(number) for number in range(len(nodes))]


def _nodes(row: dict[str, Any]) -> list[str]:
    """Return the nodes that a layer's name holds, or what the library reports beside it."""
    text = str(row["name"])
    names = _NODE.findall(_metadata(row["info_json"])) or _BETWEEN.split(
        re.sub(_AROUND, "", text.strip())
    )
    bare = [_AROUND.sub("", name.strip()) for name in names]
    kept = [name for name in bare if name and name not in _NO_NODES]
    return list(dict.fromkeys(kept)) or [text]


def _metadata(info_json: str | None) -> str:
    try:
        info = json.loads(info_json or "{}", strict=False)
    except ValueError:
        return ""
    return str(info.get("Metadata", "")) if isinstance(info, dict) else ""

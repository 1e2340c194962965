"""Labels of series, and how many of them fit in a panel.

A caption says once what all series have in common; a label names only what differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from raybench.analysis.series import device_name
from raybench.experiment import LENGTHS, QUANTISED, SYNTHETIC, parse_load
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from raybench.analysis.series import Series

PRIMARY = (
    "model", "device", "engine", "precision", "batch_size", "inflight", "transfers",
    "memory_limit_bytes", "load", "balancer", "instances", "mps", "power_limit_w",
    "prompt", "context", "new_tokens", "pipeline", "cores",
)  # fmt: skip
"""Factors that a label names whenever they differ."""
SECONDARY = (
    "inputs", "engine_version", "preset", "engine_options", "method_version", "environment_id",
)  # fmt: skip
"""Factors that a label names only if two series would otherwise have the same label."""
_USUAL = (
    ("load", "closed"),
    ("balancer", None),
    ("instances", 1),
    ("mps", False),
    ("power_limit_w", None),
    ("prompt", None),
    ("context", None),
    ("new_tokens", None),
    ("pipeline", "none"),
    ("cores", None),
)
"""Values of factors that need no word where all series have them."""
LARGEST = -1
"""Stands for the largest batch that fits, before it has been found."""
MOST = 6
"""Number of series that a reader can tell apart in a panel."""

ABREAST = 2
"""Panels side by side in a figure."""

NEARLY_WHOLE = 0.9
"""Share of its MACs from which an int8 graph counts as quantised without a word about it."""

T = TypeVar("T")
P = TypeVar("P")


def factor_label(factor: str, value: Any) -> str:
    """Return a factor's value in words that also say which factor it is."""
    if value is None:
        return _WITHOUT.get(factor, f"unknown {factor}")
    label = _LABELS.get(factor)
    return str(value) if label is None else label(value)


_WITHOUT = {
    "memory_limit_bytes": "no memory limit",
    "balancer": "",
    "power_limit_w": "power limit unchanged",
    "prompt": "",
    "context": "",
    "new_tokens": "",
    "cores": "",
}
"""Labels of factors that may have no value; workers with a queue each need no word."""
_LABELS: dict[str, Callable[[Any], str]] = {
    "batch_size": lambda size: "largest batch" if size == LARGEST else f"batch {size:,}",
    "inflight": lambda batches: f"{batches} in flight",
    "transfers": lambda on: "with transfers" if on else "without transfers",
    "memory_limit_bytes": lambda limit: f"memory limit {size(limit)}",
    "method_version": lambda version: f"method {version}",
    "device": device_name,
    "load": lambda load: load_label(load),
    "balancer": lambda name: "one shared queue" if name == "shared" else str(name),
    "instances": lambda instances: f"{counted(instances, 'instance')} a device",
    "power_limit_w": lambda watts: f"limited to {watts:g} W",
    "prompt": lambda tokens: f"prompt of {tokens:,}",
    "context": lambda tokens: f"context of {tokens:,}",
    "new_tokens": lambda tokens: f"{tokens:,} new tokens",
    "pipeline": lambda name: "without decoding" if name == "none" else f"decoding {name.upper()}",
    "cores": lambda cores: f"fed by {counted(cores, 'core')}",
    "mps": lambda on: "with MPS" if on else "without MPS",
    "inputs": lambda name: f"{name} inputs" if name == SYNTHETIC else f"inputs from {name}",
    "environment_id": lambda digest: str(digest)[:8],
}


def load_label(value: str) -> str:
    """Return a load in words: closed loop, or the rate or share of capacity that is offered."""
    load = parse_load(value)
    if load is None:
        return value
    if not load.is_open:
        return "closed loop"
    if load.share is not None:
        return f"{100 * load.share:g} % load"
    return f"{load.arrivals} {load.items_per_s:,.6g}/s"


def precision_label(precision: str | None, quantised_macs_frac: float | None) -> str:
    """Return the name of a precision, with the share in int8 of a graph that is not nearly whole."""
    share = part_in_int8(precision, quantised_macs_frac)
    return f"{precision} ({share} of MACs)" if share else str(precision)


def part_in_int8(precision: str | None, quantised_macs_frac: float | None) -> str:
    """Return the share of the MACs computed in 8 bits, e.g. "62 %"; empty from 90 % on."""
    frac = quantised_macs_frac
    if precision not in QUANTISED or frac is None or frac >= NEARLY_WHOLE:
        return ""
    return f"{100 * frac:.0f} %"


def factor_value(factor: str, value: Any) -> str:
    """Return a factor's value for a column or a line that already names the factor."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if factor == "memory_limit_bytes":
        return f"{value / 2**20:,.0f} MiB"
    if factor == "power_limit_w":
        return f"{value:g} W"
    if factor == "device":
        return device_name(str(value))
    return str(value)[:8] if factor == "environment_id" else str(value)


def workers_label(workers: int | None) -> str:
    """Return the number of workers in words; empty if unknown."""
    return "" if workers is None else counted(workers, "worker")


def joined(*parts: str) -> str:
    """Join the parts that are not empty."""
    return ", ".join(part for part in parts if part)


def size(value: float) -> str:
    """Write bytes in the largest binary unit that keeps the number above 1."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.4g} {unit}"
        value /= 1024
    raise AssertionError


class Naming:
    """Labels that tell a set of series apart.

    Attributes:
        varying: factors that labels name because they differ, in their order.
        same: what all series have in common, in words.
    """

    def __init__(self, series: Iterable[Series], without: Sequence[str] = ()) -> None:
        every = list(dict.fromkeys(series))
        values = {f: list(dict.fromkeys(getattr(s, f) for s in every)) for f in PRIMARY + SECONDARY}
        # a trial that ended early does not know its device: that is no difference
        values_of = {f: [v for v in vs if v is not None] or vs for f, vs in values.items()}
        # nor is a length in tokens, which other models do not have
        optional = ("device", "engine_version", "memory_limit_bytes", *LENGTHS)
        spread = {f: values[f] if f == "memory_limit_bytes" else values_of[f] for f in optional}
        self.varying = tuple(
            f for f in PRIMARY if f not in without and len(spread.get(f, values[f])) > 1
        )
        for factor in SECONDARY:
            wanted = {s: tuple(getattr(s, f) for f in self.varying) for s in every}
            if len(set(wanted.values())) == len(every):
                break
            if factor not in without and len(spread.get(factor, values[factor])) > 1:
                self.varying += (factor,)
        shared = [
            factor_label(f, values_of[f][0])
            for f in PRIMARY
            if f not in self.varying
            and f not in without
            and values_of[f]
            and values_of[f][0] is not None
            and (f, values_of[f][0]) not in _USUAL
        ]
        self.same = ", ".join(shared)

    def title(self, series: Series, *more: str) -> str:
        """Return the name of a curve: its model, what else differs between curves, and more of it."""
        return joined(str(series.model), self.label(series, without=("model",)), *more)

    def label(self, series: Series, without: Sequence[str] = ()) -> str:
        """Return the label of a series; empty if nothing differs."""
        varying = (f for f in self.varying if f not in without)
        return joined(*(factor_label(f, getattr(series, f)) for f in varying))


@dataclass(frozen=True)
class Panel(Generic[T]):
    """Items to draw on the same axes.

    Attributes:
        title: what they share and other panels do not.
        members: label -> item, at most `MOST` of them.
    """

    title: str
    members: dict[str, T]


def panels(
    items: Sequence[T], of: Callable[[T], Series], without: Sequence[str] = ()
) -> list[Panel[T]]:
    """Split the items by model and then by further factors until each panel is readable.

    Args:
        items: in the order to draw them.
        of: returns the series of an item.
        without: factors that are an axis and need no label.
    """
    naming = Naming([of(item) for item in items], without)
    facets: tuple[str, ...] = ("model",)
    groups = _grouped(items, of, facets)
    rest = [f for f in naming.varying if f != "model"]
    while rest and max(map(len, groups.values()), default=0) > MOST:
        finer = min(rest, key=lambda f: _worst(_grouped(items, of, (*facets, f))))
        rest.remove(finer)
        facets = (*facets, finer)
        groups = _grouped(items, of, facets)
    panels = []
    for members in groups.values():
        title = ", ".join(factor_label(f, getattr(of(members[0]), f)) for f in facets)
        named = {naming.label(of(item), without=facets): item for item in members}
        labelled = list(named.items())
        panels += [
            Panel(title, dict(labelled[k : k + MOST])) for k in range(0, len(labelled), MOST)
        ]
    return panels


def bundles(
    items: Sequence[T], of: Callable[[T], Series], name: Callable[[T], str], most: int
) -> list[tuple[str, dict[str, list[T]]]]:
    """Collect items of the same name in bundles, and bundles of a model in panels.

    Args:
        items: in the order to draw them.
        of: returns the series of an item.
        name: returns the name of an item's bundle within its model.
        most: bundles in a panel.

    Returns:
        Title and bundles of each panel.
    """
    models: dict[str, dict[str, list[T]]] = {}
    for item in items:
        own = models.setdefault(str(of(item).model), {})
        own.setdefault(name(item), []).append(item)
    panels = []
    for model, named in models.items():
        members = list(named.items())
        panels_needed = math.ceil(len(members) / most)
        size = math.ceil(len(members) / panels_needed)  # equally full panels for a model
        for k in range(0, len(members), size):
            shown = members[k : k + size]
            # a single bundle has no label below it
            title = joined(model, shown[0][0]) if len(shown) == 1 else model
            panels.append((title, dict(shown)))
    return panels


def abreast(panels: Sequence[P], most_figures: int) -> list[Sequence[P]]:
    """Return the panels of each figure, two side by side."""
    return [panels[k : k + ABREAST] for k in range(0, len(panels), ABREAST)][:most_figures]


def _grouped(
    items: Sequence[T], of: Callable[[T], Series], facets: Sequence[str]
) -> dict[tuple[Any, ...], list[T]]:
    groups: dict[tuple[Any, ...], list[T]] = {}
    for item in items:
        groups.setdefault(tuple(getattr(of(item), f) for f in facets), []).append(item)
    return groups


def _worst(groups: dict[tuple[Any, ...], list[T]]) -> tuple[int, int]:
    """Return a cost: the fullest panel, if above `MOST`, then the number of panels."""
    return max(MOST, *map(len, groups.values())), len(groups)

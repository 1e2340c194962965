"""labels: what a series is called among others, and how many of them a panel can hold.

What all have in common is said once, in a caption; a label names only what differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from raybench.analysis.series import Series

PRIMARY = (
    "model", "device", "engine", "precision", "batch_size", "inflight", "transfers",
    "memory_limit_bytes",
)  # fmt: skip
"""Factors that a label names whenever they differ."""
SECONDARY = ("engine_version", "preset", "engine_options", "method_version", "environment_id")
"""Factors that a label names only where two series would be called the same."""
MOST = 6
"""Series that a panel can hold and a reader can tell apart."""

ABREAST = 2
"""Panels beside each other in a figure."""

T = TypeVar("T")
P = TypeVar("P")


def word(factor: str, value: Any) -> str:
    """A value of a factor as it stands in a label."""
    if value is None:
        return "no memory limit" if factor == "memory_limit_bytes" else f"unknown {factor}"
    if factor == "batch_size":
        return f"batch {value:,}"
    if factor == "inflight":
        return f"{value} in flight"
    if factor == "transfers":
        return "with transfers" if value else "without transfers"
    if factor == "memory_limit_bytes":
        return f"memory limit {size(value)}"
    if factor == "method_version":
        return f"method {value}"
    if factor == "device":
        return device_name(value)
    return str(value)[:8] if factor == "environment_id" else str(value)


def factor_value(factor: str, value: Any) -> str:
    """Return a factor's value for a column or a line that already names the factor."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if factor == "memory_limit_bytes":
        return f"{value / 2**20:,.0f} MiB"
    if factor == "device":
        return device_name(str(value))
    return str(value)[:8] if factor == "environment_id" else str(value)


_DECLARED = "\x74old "
"""How the stored name of a GPU begins that no driver confirmed; see `raybench.machine.devices`."""


def device_name(stored: str) -> str:
    """Return the name of a device to print, from the name that rows hold."""
    return stored.replace(_DECLARED, "declared ", 1) if stored.startswith(_DECLARED) else stored


def counted(workers: int | None) -> str:
    """How many workers, in words."""
    return "" if workers is None else f"{workers} worker{'s' if workers != 1 else ''}"


def joined(*words: str) -> str:
    """The words that say something, in a row."""
    return ", ".join(word for word in words if word)


def size(value: float) -> str:
    """Bytes in the largest binary unit that keeps them above 1."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.4g} {unit}"
        value /= 1024
    raise AssertionError


class Naming:
    """The names of some series among each other.

    Attributes:
        varying: factors that differ and are named, in the order of a label.
        same: what all have in common, in words.
    """

    def __init__(self, series: Iterable[Series], without: Sequence[str] = ()) -> None:
        every = list(dict.fromkeys(series))
        values = {f: list(dict.fromkeys(getattr(s, f) for s in every)) for f in PRIMARY + SECONDARY}
        # what ended early never learnt its device: that is no difference
        known = {f: [v for v in vs if v is not None] or vs for f, vs in values.items()}
        optional = ("device", "engine_version", "memory_limit_bytes")
        spread = {f: values[f] if f == "memory_limit_bytes" else known[f] for f in optional}
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
            word(f, known[f][0])
            for f in PRIMARY
            if f not in self.varying and f not in without and known[f] and known[f][0] is not None
        ]
        self.same = ", ".join(shared)

    def label(self, series: Series, without: Sequence[str] = ()) -> str:
        """What the series is called; empty when nothing differs."""
        return ", ".join(word(f, getattr(series, f)) for f in self.varying if f not in without)


@dataclass(frozen=True)
class Panel(Generic[T]):
    """Things that are drawn on the same axes.

    Attributes:
        title: what they share and other panels do not.
        members: label -> thing, at most `MOST` of them.
    """

    title: str
    members: dict[str, T]


def panels(
    things: Sequence[T], of: Callable[[T], Series], without: Sequence[str] = ()
) -> list[Panel[T]]:
    """The things, model by model, cut by further factors until each panel can be read.

    Args:
        things: in the order in which they shall stand.
        of: gives a thing's series.
        without: factors that are an axis and name nothing.
    """
    naming = Naming([of(thing) for thing in things], without)
    facets: tuple[str, ...] = ("model",)
    groups = _grouped(things, of, facets)
    rest = [f for f in naming.varying if f != "model"]
    while rest and max(map(len, groups.values()), default=0) > MOST:
        finer = min(rest, key=lambda f: _worst(_grouped(things, of, (*facets, f))))
        rest.remove(finer)
        facets = (*facets, finer)
        groups = _grouped(things, of, facets)
    found = []
    for members in groups.values():
        title = ", ".join(word(f, getattr(of(members[0]), f)) for f in facets)
        named = {naming.label(of(thing), without=facets): thing for thing in members}
        items = list(named.items())
        found += [Panel(title, dict(items[k : k + MOST])) for k in range(0, len(items), MOST)]
    return found


def bundles(
    things: Sequence[T], of: Callable[[T], Series], name: Callable[[T], str], most: int
) -> list[tuple[str, dict[str, list[T]]]]:
    """Things of the same name together, so many names to a panel; a title is the model's name.

    Args:
        things: in the order in which they shall stand.
        of: gives a thing's series.
        name: of the bundle that a thing belongs to, within its model.
        most: bundles in a panel.
    """
    models: dict[str, dict[str, list[T]]] = {}
    for thing in things:
        own = models.setdefault(str(of(thing).model), {})
        own.setdefault(name(thing), []).append(thing)
    found = []
    for model, named in models.items():
        items = list(named.items())
        size = math.ceil(len(items) / math.ceil(len(items) / most))  # panels of one model alike
        for k in range(0, len(items), size):
            some = items[k : k + size]
            # a single bundle has no label under it
            title = joined(model, some[0][0]) if len(some) == 1 else model
            found.append((title, dict(some)))
    return found


def abreast(panels: Sequence[P], most_figures: int) -> list[Sequence[P]]:
    """The panels of each figure, two beside each other."""
    return [panels[k : k + ABREAST] for k in range(0, len(panels), ABREAST)][:most_figures]


def _grouped(
    things: Sequence[T], of: Callable[[T], Series], facets: Sequence[str]
) -> dict[tuple[Any, ...], list[T]]:
    groups: dict[tuple[Any, ...], list[T]] = {}
    for thing in things:
        groups.setdefault(tuple(getattr(of(thing), f) for f in facets), []).append(thing)
    return groups


def _worst(groups: dict[tuple[Any, ...], list[T]]) -> tuple[int, int]:
    """The fullest panel, but none needs to be emptier than `MOST`; then few panels."""
    return max(MOST, *map(len, groups.values())), len(groups)

"""Figures of the same points on different devices side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.captions import caption, subset_note
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish
from raybench.report.formatting import times
from raybench.report.labels import (
    ABREAST,
    Naming,
    abreast,
    bundles,
    factor_label,
    joined,
    workers_label,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.devices import DeviceResult, Generation
    from raybench.report.document import Figure

Panel = tuple[str, dict[str, list["DeviceResult"]]]
_GROUPS, MOST_FIGURES = 3, 2


def figures(generation: Generation) -> Iterator[Figure]:
    """Yield figures of two panels each, a model in each panel."""
    sides = generation.results
    without = ("model", "device", generation.by, "engine_version", "environment_id")
    naming = Naming([side.series for side in sides], without)
    several = len({side.workers for side in sides}) > 1

    def name(side: DeviceResult) -> str:
        own = naming.label(side.series) or factor_label("precision", side.series.precision)
        return joined(own, workers_label(side.workers) if several else "")

    every = bundles(sides, lambda side: side.series, name, _GROUPS)
    subset = subset_note(MOST_FIGURES * ABREAST, len(every))
    for number, page in enumerate(abreast(every, MOST_FIGURES), 1):
        yield _figure(number, page, generation, subset)


@style.styled
def _figure(number: int, page: Sequence[Panel], generation: Generation, subset: str) -> Figure:
    figure, axes = style.canvas(1, len(page), height_in=2.6)
    tints = style.tints(generation.names)
    for axis, (title, groups) in zip(axes[0], page, strict=False):
        style.title(axis, title, len(page))
        bars = {name: [_bar(s, tints) for s in group] for name, group in groups.items()}
        grammar.draw_bar_groups(axis, bars, 0.12)
    axes[0][0].set_ylabel("throughput (items/s)")
    sides = [s for _, groups in page for group in groups.values() for s in group]
    drawn = [side for side in sides if side.items_per_s.value is not None]
    present = {side.name for side in sides}
    shown = {name: tint for name, tint in tints.items() if name in present}
    grammar.draw_legend(figure, shown, {m for s in drawn for m in s.marks}, bars=True)
    by = generation.by.replace("_", " ")
    what = (
        f"Items per second of the same points, {by} by {by}. Above a bar its ratio to "
        f"{generation.names[0]}."
    )
    title = "Side by side: " + "; ".join(dict.fromkeys(title for title, _ in page))
    return finish(figure, f"devices-{number}", title, caption(what, drawn, subset=subset))


def _bar(side: DeviceResult, tints: dict[str, str]) -> grammar.Bar:
    compared = side.ratio.value is not None and side.name != side.base
    return grammar.Bar(
        tint=tints.get(side.name, style.MUTED),
        value=side.items_per_s,
        marks=side.marks,
        absent=side.status,
        above=times(side.ratio.value) if compared else "",
    )

"""Device figures: the same points on different devices side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.report import style
from raybench.report.captions import caption, shown
from raybench.report.labels import Naming, word
from raybench.report.numbers import ratio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.generation import Generation, Side
    from raybench.report.document import Figure

_ABREAST, _GROUPS, MOST_FIGURES = 2, 3, 2


def figures(generation: Generation) -> Iterator[Figure]:
    """Panels of a model each, two abreast."""
    every = _panels(generation)
    pages = [every[k : k + _ABREAST] for k in range(0, len(every), _ABREAST)]
    for number, page in enumerate(pages[:MOST_FIGURES], 1):
        yield _figure(number, page, generation, shown(MOST_FIGURES * _ABREAST, every))


def _panels(generation: Generation) -> list[tuple[str, dict[str, list[Side]]]]:
    without = ("model", "device", generation.by, "engine_version", "environment_id")
    naming = Naming([side.series for side in generation.sides], without)
    workers = {side.workers for side in generation.sides}
    models: dict[str, dict[str, list[Side]]] = {}
    for side in generation.sides:
        name = naming.label(side.series) or (word("precision", side.series.precision))
        if len(workers) > 1:
            name += f", {side.workers} worker{'s' if side.workers != 1 else ''}"
        models.setdefault(str(side.series.model), {}).setdefault(name, []).append(side)
    found = []
    for model, groups in models.items():
        names = list(groups)
        found += [
            (model, {name: groups[name] for name in names[k : k + _GROUPS]})
            for k in range(0, len(names), _GROUPS)
        ]
    return found


@style.styled
def _figure(
    number: int,
    page: Sequence[tuple[str, dict[str, list[Side]]]],
    generation: Generation,
    subset: str,
) -> Figure:
    figure, axes = style.canvas(1, _ABREAST, height_in=2.6)
    sides = [s for _, groups in page for group in groups.values() for s in group]
    tints = {name: style.colour(k) for k, name in enumerate(generation.names)}
    for column, (title, groups) in enumerate(page):
        _panel(axes[0][column], title, groups, tints)
    axes[0][0].set_ylabel("throughput (items/s)")
    style.blank(axes, len(page))
    drawn = [side for side in sides if side.items_per_s is not None]
    present = {side.name for side in sides}
    style.key(figure, {k: v for k, v in tints.items() if k in present},
              {m for s in drawn for m in s.marks}, bars=True)  # fmt: skip
    base = generation.names[0] if generation.names else ""
    what = (
        f"Items per second of the same points, {generation.by.replace('_', ' ')} by "
        f"{generation.by.replace('_', ' ')}. Above a bar its ratio to {base}."
    )
    title = "Side by side: " + "; ".join(dict.fromkeys(title for title, _ in page))
    return style.finish(figure, f"devices-{number}", title, caption(what, drawn, subset=subset))


def _panel(axes: Any, title: str, groups: dict[str, list[Side]], tints: dict[str, str]) -> None:
    axes.set_title(title)
    for place, group in enumerate(groups.values()):
        width = 0.8 / len(group)
        for k, side in enumerate(group):
            x = place + (k - (len(group) - 1) / 2) * width
            if side.items_per_s is None:
                style.absent(axes, x, side.status.replace("_", " "))
                continue
            dot = style.Dot(x, side.items_per_s, side.items_per_s_lo, side.items_per_s_hi,
                            side.marks)  # fmt: skip
            style.bar(axes, dot, width * 0.86, tints.get(side.name, style.MUTED))
            if side.ratio is not None and side.name != side.base:
                style.over(axes, dot, ratio(side.ratio, None, None))
    style.categories(axes, range(len(groups)), list(groups))
    style.rates(axes, [s.items_per_s for group in groups.values() for s in group], 0.12)

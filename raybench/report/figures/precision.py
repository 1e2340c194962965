"""Precision figures: bars of each precision at the same point, with ratio and fidelity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from raybench.report import style
from raybench.report.captions import caption, shown
from raybench.report.labels import Naming
from raybench.report.numbers import ratio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.precision import Gain, Precision
    from raybench.report.document import Figure

_ABREAST, _GROUPS, MOST_FIGURES = 2, 4, 2


@dataclass(frozen=True)
class _Panel:
    title: str
    groups: dict[str, list[Gain]]


def figures(precision: Precision) -> Iterator[Figure]:
    """Panels of a model each, two abreast."""
    every = _panels(precision.gains)
    pages = [every[k : k + _ABREAST] for k in range(0, len(every), _ABREAST)]
    for number, page in enumerate(pages[:MOST_FIGURES], 1):
        yield _figure(number, page, shown(MOST_FIGURES * _ABREAST, every))


def _panels(gains: Sequence[Gain]) -> list[_Panel]:
    naming = Naming([gain.series for gain in gains], without=("precision",))
    workers = {gain.workers for gain in gains}
    models: dict[str, dict[str, list[Gain]]] = {}
    for gain in gains:
        name = naming.label(gain.series, without=("model",))
        if len(workers) > 1:
            name = f"{name}, {_workers(gain)}" if name else _workers(gain)
        models.setdefault(str(gain.series.model), {}).setdefault(name, []).append(gain)
    found = []
    for model, groups in models.items():
        names = list(groups)
        for k in range(0, len(names), _GROUPS):
            some = {name: groups[name] for name in names[k : k + _GROUPS]}
            title = f"{model}, {names[k]}" if len(some) == 1 and names[k] else model
            found.append(_Panel(title, some))
    return found


def _workers(gain: Gain) -> str:
    return f"{gain.workers} worker{'s' if gain.workers != 1 else ''}"


@style.styled
def _figure(number: int, page: Sequence[_Panel], subset: str) -> Figure:
    figure, axes = style.canvas(1, _ABREAST, height_in=2.6)
    gains = [g for panel in page for group in panel.groups.values() for g in group]
    names = list(dict.fromkeys(str(gain.series.precision) for gain in gains))
    tints = {name: style.colour(k) for k, name in enumerate(names)}
    for column, panel in enumerate(page):
        _panel(axes[0][column], panel, tints)
    axes[0][0].set_ylabel("throughput (items/s)")
    style.blank(axes, len(page))
    drawn = [gain for gain in gains if gain.items_per_s is not None]
    extra: list[tuple[Any, str]] = []
    if any(gain.peak_ratio is not None and gain.peak_ratio != 1 for gain in drawn):
        line = Line2D([], [], color=style.INK, linestyle="--", linewidth=1.0)
        extra.append((line, "ratio of the chip's peaks"))
    style.key(figure, tints, {m for g in drawn for m in g.marks}, extra, bars=True)
    what = (
        "Items per second of the same points in each precision. Above a bar its ratio to fp32 "
        "with all else equal, and below it the fidelity of its outputs to fp32 (signal to "
        "quantisation noise)."
    )
    title = "Throughput by precision: " + "; ".join(panel.title for panel in page)
    return style.finish(figure, f"precision-{number}", title, caption(what, drawn, subset=subset))


def _panel(axes: Any, panel: _Panel, tints: dict[str, str]) -> None:
    axes.set_title(panel.title)
    base: dict[int, float] = {}
    ticks = []
    for place, group in enumerate(panel.groups.values()):
        width = 0.8 / len(group)
        for k, gain in enumerate(group):
            x = place + (k - (len(group) - 1) / 2) * width
            if gain.series.precision == "fp32" and gain.items_per_s is not None:
                base[place] = gain.items_per_s
            _bar(axes, gain, x, width * 0.86, tints[str(gain.series.precision)], base.get(place))
        ticks.append(place)
    style.categories(axes, ticks, list(panel.groups) if len(panel.groups) > 1 else [""])
    style.rates(axes, [g.items_per_s for group in panel.groups.values() for g in group], 0.16)


def _bar(axes: Any, gain: Gain, x: float, width: float, tint: str, base: float | None) -> None:
    if gain.items_per_s is None:
        style.absent(axes, x, gain.status.replace("_", " "))
        return
    dot = style.Dot(x, gain.items_per_s, gain.items_per_s_lo, gain.items_per_s_hi, gain.marks)
    style.bar(axes, dot, width, tint)
    words = []
    if gain.ratio is not None and gain.series.precision != "fp32":
        words.append(ratio(gain.ratio, None, None))
    if gain.fidelity_sqnr_db is not None and gain.series.precision != "fp32":
        words.append(f"{gain.fidelity_sqnr_db:.0f} dB")
    style.over(axes, dot, "\n".join(words))
    if base is not None and gain.peak_ratio is not None and gain.peak_ratio != 1:
        limit = base * gain.peak_ratio
        axes.plot([x - width / 2, x + width / 2], [limit, limit], color=style.INK,
                  linestyle="--", linewidth=1.0, zorder=5)  # fmt: skip

"""Figures of the 2017 study, each beside the same figure from rows."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from raybench.report.captions import caveats
from raybench.report.figures import axes as scales
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish
from raybench.report.formatting import TIMES, short, times

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.study2017.figures import Paper, StudyBar, StudyFigure
    from raybench.report.document import Figure

_SOURCE = (
    "Left: bars of R. Xu, F. Han, N. Dandapanthu, Deep Learning Inference on P40 GPUs, Dell EMC "
    "HPC Innovation Lab, March 2017, which gives no intervals."
)


def figures(paper: Paper) -> Iterator[Figure]:
    """Yield the figures of the study for which there are rows."""
    for one in paper.figures:
        if comparable(one):
            yield _figure(one)


def comparable(one: StudyFigure) -> bool:
    """Tell whether there are rows for at least two bars: one alone compares with nothing."""
    return sum(bar.items_per_s.value is not None for bar in one.here) > 1


@style.styled
def _figure(one: StudyFigure) -> Figure:
    figure, axes = style.canvas(1, 2, height_in=2.6)
    tints = style.tints(bar.model for bar in (*one.study, *one.here))
    sides: tuple[tuple[Any, str, Sequence[StudyBar]], ...] = (
        (axes[0][0], "the study, 2017", one.study),
        (axes[0][1], _where(one.here), one.here),
    )
    lines = one.axis == "batch_size"
    for axis, title, bars in sides:
        style.title(axis, title, 2)
        if lines:
            _lines(axis, bars, tints)
        else:
            _bars(axis, bars, tints, one.axis)
    axes[0][0].set_ylabel("throughput (items/s)")
    grammar.draw_legend(figure, tints, {m for bar in one.here for m in bar.marks}, bars=not lines)
    name, title = f"study-{one.number}", f"Figure {one.number} of the 2017 study: {one.title}"
    return finish(figure, name, title, _caption(one))


def _caption(one: StudyFigure) -> str:
    drawn = [bar for bar in one.here if bar.items_per_s.value is not None]
    intervals = (
        "whiskers are 95 % intervals" if any(b.items_per_s.lo for b in drawn) else "no intervals"
    )
    sizes = " or ".join(f"{size:,}" for size in sorted({bar.batch_size for bar in one.here}))
    batch = "" if one.axis == "batch_size" else f" at batch {sizes} (the study: 128)"
    ratios = (
        ""
        if one.axis == "batch_size"
        else "Above the bars their ratio to the first of each network, and items per second."
    )
    if any(bar.on_cores for bar in drawn):
        batch += " on CPU cores, which are no match for GPUs"
    parts = (f"{_SOURCE} Right: here{batch}, {intervals}.", ratios, caveats(drawn), *one.missing)
    return " ".join(part for part in parts if part)


def _where(bars: Sequence[StudyBar]) -> str:
    names = [name for name in dict.fromkeys(bar.device for bar in bars) if name]
    return "here: " + (", ".join(names) if 0 < len(names) < 3 else f"{len(names)} devices")


def _lines(axis: Any, bars: Sequence[StudyBar], tints: dict[str, str]) -> None:
    for model, tint in tints.items():
        of_model = [bar for bar in bars if bar.model == model]
        dots = [
            grammar.Dot(bar.batch_size, bar.items_per_s, bar.marks)
            for bar in of_model
            if bar.items_per_s.value is not None
        ]
        grammar.draw_points(axis, dots, tint)
        for bar in of_model:
            if bar.items_per_s.value is None:
                grammar.draw_missing(axis, bar.batch_size, bar.status)
    scales.rates(axis, [bar.items_per_s.value for bar in bars])
    scales.measured_ticks(axis, [bar.batch_size for bar in bars])
    axis.set_xlabel("batch size (items)")


def _bars(axis: Any, bars: Sequence[StudyBar], tints: dict[str, str], by: str) -> None:
    places, names, place = [], [], 0.0
    room = 42 // max(1, len(bars)) if len({bar.device for bar in bars}) > 1 else None
    for model, tint in tints.items():
        for bar in (bar for bar in bars if bar.model == model):
            one = grammar.Bar(tint, bar.items_per_s, bar.marks, bar.status, _above(bar))
            grammar.draw_bar(axis, one, place, 0.72)
            names.append(_tick(bar, by, room))
            places.append(place)
            place += 1
        place += 0.6
    scales.categories(axis, places, names)
    scales.rates(axis, [bar.items_per_s.value for bar in bars], 0.16)


def _above(bar: StudyBar) -> str:
    rate = short(round(bar.items_per_s.value or 0.0, 1))
    if bar.relative.value is None or bar.relative.value == 1:
        return rate
    return f"{times(bar.relative.value)}\n{rate}"


def _tick(bar: StudyBar, by: str, room: int | None) -> str:
    """Return the label of a bar, below its device in lines of `room` letters if given."""
    what = f"{bar.workers}{TIMES}" if by == "workers" else bar.precision
    if room is None:
        return what
    return "\n".join([*textwrap.wrap(style.shortened(bar.device or "?", 24), max(6, room)), what])

"""Study figures: each figure of the 2017 study beside the same figure from rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.report import style
from raybench.report.captions import told
from raybench.report.numbers import TIMES, short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.paper import Bar, Paper
    from raybench.analysis.paper import Figure as Study
    from raybench.report.document import Figure

_SOURCE = (
    "Left: bars of R. Xu, F. Han, N. Dandapanthu, Deep Learning Inference on P40 GPUs, Dell EMC "
    "HPC Innovation Lab, March 2017, which gives no intervals."
)


def figures(paper: Paper) -> Iterator[Figure]:
    """Those figures of the study for which there are rows."""
    for one in paper.figures:
        if one.here:
            yield _figure(one)


@style.styled
def _figure(one: Study) -> Figure:
    figure, axes = style.canvas(1, 2, height_in=2.6)
    models = list(dict.fromkeys(bar.model for bar in (*one.study, *one.here)))
    tints = {model: style.colour(k) for k, model in enumerate(models)}
    sides: tuple[tuple[Any, str, Sequence[Bar]], ...] = (
        (axes[0][0], "the study, 2017", one.study),
        (axes[0][1], _where(one.here), one.here),
    )
    for axis, title, bars in sides:
        axis.set_title(title)
        if one.axis == "batch_size":
            _lines(axis, bars, tints)
        else:
            _bars(axis, bars, tints, one.axis)
    axes[0][0].set_ylabel("throughput (items/s)")
    marks = {mark for bar in one.here for mark in bar.marks}
    style.key(figure, tints, marks, bars=one.axis != "batch_size")
    drawn = [bar for bar in one.here if bar.items_per_s is not None]
    sure = "whiskers are 95 % intervals" if any(b.items_per_s_lo for b in drawn) else "no intervals"
    ratios = (
        ""
        if one.axis == "batch_size"
        else "Above the bars their ratio to the first of each network, and items per second."
    )
    missing = " ".join(one.missing)
    return style.finish(
        figure,
        f"study-{one.number}",
        f"Figure {one.number} of the 2017 study: {one.title}",
        " ".join(p for p in (f"{_SOURCE} Right: here, {sure}.", ratios, told(drawn), missing) if p),
    )


def _where(bars: Sequence[Bar]) -> str:
    names = [name for name in dict.fromkeys(bar.device for bar in bars) if name]
    return "here: " + (", ".join(names) if 0 < len(names) < 3 else f"{len(names)} devices")


def _lines(axis: Any, bars: Sequence[Bar], tints: dict[str, str]) -> None:
    for model, tint in tints.items():
        some = [bar for bar in bars if bar.model == model]
        style.line(axis, [_dot(bar, bar.batch_size) for bar in some if bar.items_per_s], tint)
        for bar in some:
            if bar.items_per_s is None:
                style.absent(axis, bar.batch_size, bar.status.replace("_", " "))
    style.rates(axis, [bar.items_per_s for bar in bars])
    style.ladder(axis, [bar.batch_size for bar in bars])
    axis.set_xlabel("batch size (items)")


def _bars(axis: Any, bars: Sequence[Bar], tints: dict[str, str], by: str) -> None:
    places, names, place = [], [], 0.0
    for model, tint in tints.items():
        for bar in [bar for bar in bars if bar.model == model]:
            names.append(_tick(bar, by))
            places.append(place)
            if bar.items_per_s is None:
                style.absent(axis, place, bar.status.replace("_", " "))
            else:
                dot = _dot(bar, place)
                style.bar(axis, dot, 0.72, tint)
                words = [short(round(bar.items_per_s))]
                if bar.relative is not None and bar.relative != 1:
                    words.insert(0, f"{bar.relative:.3f}{TIMES}")
                style.over(axis, dot, "\n".join(words))
            place += 1
        place += 0.6
    style.categories(axis, places, names)
    style.rates(axis, [bar.items_per_s for bar in bars], 0.16)


def _tick(bar: Bar, by: str) -> str:
    if by == "workers":
        return f"{bar.workers}{TIMES}"
    if by == "precision":
        return bar.precision
    return f"{bar.device or '?'}\n{bar.precision}"


def _dot(bar: Bar, x: float) -> style.Dot:
    return style.Dot(float(x), bar.items_per_s or 0.0, bar.items_per_s_lo, bar.items_per_s_hi,
                     bar.marks)  # fmt: skip

"""Figures of decoders: tokens/s and time over the batch, and time over the context or prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.analysis.decoder_points import STEP
from raybench.report.captions import caption, subset_note
from raybench.report.decoder_names import curve_name
from raybench.report.figures import axes as scales
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish
from raybench.report.labels import MOST, joined, workers_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.axes import Axes

    from raybench.analysis.decoder_ladders import DecoderLadder
    from raybench.analysis.decoder_points import DecoderPoint
    from raybench.analysis.estimate import Estimate
    from raybench.report.document import Figure

MOST_FIGURES = 6
_ALONG = {
    "batch_size": "batch (sequences)",
    "context": "context (tokens)",
    "prompt": "prompt (tokens)",
}


def figures(ladders: Sequence[DecoderLadder]) -> Iterator[Figure]:
    """Yield a figure for each decoder, part and factor, at most six curves in each."""
    groups: dict[tuple[str, str, str], list[DecoderLadder]] = {}
    for ladder in ladders:
        if any(point.batch_ms.value is not None for point in ladder.points):
            groups.setdefault((ladder.name, ladder.part, ladder.along), []).append(ladder)
    pages = [
        members[k : k + MOST] for members in groups.values() for k in range(0, len(members), MOST)
    ]
    subset = subset_note(MOST_FIGURES, len(pages))
    for number, page in enumerate(pages[:MOST_FIGURES], 1):
        yield _figure(number, page, subset)


@style.styled
def _figure(number: int, page: Sequence[DecoderLadder], subset: str) -> Figure:
    first = page[0]
    several = len({ladder.workers for ladder in page}) > 1
    named = {
        joined(curve_name(ladder, page), workers_label(ladder.workers) if several else ""): ladder
        for ladder in page
    }
    figure, axes = style.canvas(1, 2, height_in=2.7)
    tints = style.tints(named)
    what = "a token" if first.part == STEP else "a prefill"
    panels: tuple[tuple[str, Callable[[DecoderPoint], Estimate]], ...] = (
        ("tokens/s of all devices", lambda point: point.tokens_per_s),
        (f"time of {what} (ms)", lambda point: point.batch_ms),
    )
    for axis, (label, value) in zip(axes[0], panels, strict=True):
        for name, ladder in named.items():
            _curve(axis, ladder, value, tints[name])
        points = [point for ladder in page for point in ladder.points]
        scales.measured_ticks(axis, [ladder.place(p) for ladder in page for p in ladder.points])
        scales.rates(axis, [value(point).value for point in points], headroom=0.06)
        axis.set_xlabel(_ALONG[first.along])
        axis.set_ylabel(label)
    drawn = [p for ladder in page for p in ladder.points if p.batch_ms.value is not None]
    grammar.draw_legend(figure, tints, {mark for point in drawn for mark in point.marks})
    text = (
        f"Tokens per second (left) and the time of {what} (right) over the {_ALONG[first.along]}. A cross on "
        "the axis gave no number, and why."
    )
    title = f"{first.name}, {first.part}, over the {first.along.replace('_size', '')}"
    return finish(figure, f"decoding-{number}", title, caption(text, drawn, subset=subset))


def _curve(
    axis: Axes, ladder: DecoderLadder, value: Callable[[DecoderPoint], Estimate], tint: str
) -> None:
    dots = []
    for point in ladder.points:
        if point.batch_ms.value is None:
            grammar.draw_missing(axis, float(ladder.place(point)), point.status)
        else:
            dots.append(grammar.Dot(float(ladder.place(point)), value(point), point.marks))
    grammar.draw_points(axis, dots, tint)

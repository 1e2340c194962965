"""Figure of throughput over latency, with the line of the points that no other beats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.report.captions import caption, subset_note
from raybench.report.figures import axes as scales
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish
from raybench.report.labels import Naming, workers_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from raybench.analysis.pareto import Choice, Front
    from raybench.report.document import Figure

MOST_FIGURES = 4
_MOST_NAMES = 7


def figures(fronts: tuple[Front, ...], naming: Naming) -> Iterator[Figure]:
    """Yield a figure for each front."""
    subset = subset_note(MOST_FIGURES, len(fronts))
    for number, front in enumerate(fronts[:MOST_FIGURES], 1):
        yield _figure(number, front, naming, subset)


def title_of(front: Front, naming: Naming) -> str:
    """Return the name of a front: its model, what else differs between fronts, and its workers."""
    return naming.title(front.series, workers_label(front.workers))


@style.styled
def _figure(number: int, front: Front, naming: Naming, subset: str) -> Figure:
    figure, axes = style.canvas(1, 1, height_in=3.2)
    (axis,) = axes[0]
    percentile = front.percentile.split("_")[1]
    within = Naming([choice.series for choice in front.choices], without=("model",))
    by_precision: dict[str, list[Choice]] = {}
    for choice in front.choices:
        by_precision.setdefault(str(choice.series.precision), []).append(choice)
    tints = style.tints(by_precision)
    best = front.best
    axis.plot([c.latency_ms for c in best], [c.items_per_s.value for c in best],
              color=style.MUTED, linewidth=1.2, drawstyle="steps-post", zorder=1)  # fmt: skip
    for name, choices in by_precision.items():
        dots = [grammar.Dot(c.latency_ms, c.items_per_s, c.marks) for c in choices]
        grammar.draw_points(axis, dots, tints[name], joined=False)
    names = _number(axis, best, within)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(scales.plain())
    axis.xaxis.set_minor_formatter(scales.plain())
    axis.tick_params(axis="x", which="minor", labelsize=7)
    axis.set_xlabel(f"latency of a batch, {percentile} (ms)")
    axis.set_ylabel("throughput (items/s)")
    scales.rates(axis, [choice.items_per_s.value for choice in front.choices], 0.12)
    grammar.draw_legend(figure, tints, {m for c in front.choices for m in c.marks})
    what = (
        f"Items per second over the {percentile} latency of a batch, a point for each choice of "
        "batch, batches in flight, instances and precision, all in closed loop. The line joins "
        "those that no other beats: none has as much throughput at no more latency."
    ) + (f" {names}." if names else "")
    title = f"Throughput against latency: {title_of(front, naming)}"
    return finish(figure, f"pareto-{number}", title, caption(what, front.choices, subset=subset))


def _number(axis: Any, best: tuple[Choice, ...], within: Naming) -> str:
    """Number the points of the line, evenly chosen where they are many; return what they are."""
    step = max(1, -(-len(best) // _MOST_NAMES))
    chosen = best[::-1][::step][::-1]
    for number, choice in enumerate(chosen, 1):
        axis.annotate(str(number), (choice.latency_ms, choice.items_per_s.value),
                      xytext=(-4, 4), textcoords="offset points", ha="right", va="bottom",
                      fontsize=8, color=style.INK, zorder=6)  # fmt: skip
    names = [within.label(choice.series) for choice in chosen]
    return "; ".join(f"{number}: {name}" for number, name in enumerate(names, 1) if name)

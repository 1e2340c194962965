"""Heat maps of a fleet: hosts down, the devices of each across, coloured by how slow they are."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from raybench.analysis.device_verdicts import OUTCOMES, REJECT, UNDECIDED
from raybench.analysis.fleet import natural_key
from raybench.report.captions import subset_note
from raybench.report.figures import style
from raybench.report.figures.svg import finish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.device_verdicts import Acceptance, DeviceVerdict
    from raybench.report.document import Figure
    from raybench.report.labels import Naming

    Hosts = dict[tuple[str, str], list[DeviceVerdict]]

MOST_FIGURES = 4
SLOWER, FASTER = style.SERIES[1], style.SERIES[0]
_SIGNS = {REJECT: "\N{MULTIPLICATION SIGN}", UNDECIDED: "?"}
_TALLEST_IN, _ROW_IN, _LEGIBLE_IN = 14.0, 0.24, 0.11
"""Height of a whole map, of a host, and of the lowest host that still has a name of its own."""
_WIDEST = 64
"""Devices of a host that are drawn."""


def figures(acceptance: Acceptance, naming: Naming) -> Iterator[Figure]:
    """Yield a heat map of each point and situation, those with rejected devices first."""
    maps: dict[tuple[str, str], list[DeviceVerdict]] = defaultdict(list)
    for verdict in acceptance.verdicts:
        maps[naming.title(verdict.series), verdict.situation].append(verdict)
    ordered = sorted(maps, key=lambda key: min(OUTCOMES.index(v.verdict) for v in maps[key]))
    subset = subset_note(MOST_FIGURES, len(ordered))
    for number, key in enumerate(ordered[:MOST_FIGURES], 1):
        yield _figure(number, ", ".join(key), maps[key], acceptance.tolerance, subset)


@style.styled
def _figure(
    number: int, name: str, verdicts: Sequence[DeviceVerdict], tolerance: float, subset: str
) -> Figure:
    hosts = _by_host(verdicts)
    row_in = min(_ROW_IN, _TALLEST_IN / len(hosts))
    figure, axes = style.canvas(1, 1, height_in=max(row_in * len(hosts) + 0.4, 0.9))
    (axis,) = axes[0]
    full = 2 * tolerance or 0.02
    most = max(map(len, hosts.values()))
    for place, members in enumerate(hosts.values()):
        cells = [Rectangle((k + 0.04, place - 0.46), 0.92, 0.92) for k in range(len(members))]
        colours = [_colour(verdict.to_population.value or 1.0, full) for verdict in members]
        axis.add_collection(
            PatchCollection(cells, facecolors=colours, edgecolors=style.RULE, linewidths=0.5)
        )
        for k, verdict in enumerate(members):
            if verdict.verdict in _SIGNS:
                strong = abs((verdict.to_population.value or 1.0) - 1) > full / 2
                axis.text(k + 0.5, place, _SIGNS[verdict.verdict], ha="center", va="center",
                          fontsize=min(9.0, 55 * row_in),
                          color=style.PAPER if strong else style.INK)  # fmt: skip
    axis.set_xlim(0, max(most, 4))
    axis.set_ylim(len(hosts) - 0.4, -0.6)
    step = max(1, round(_LEGIBLE_IN / row_in))
    axis.set_yticks(range(0, len(hosts), step), [_host(key) for key in list(hosts)[::step]])
    axis.set_xticks([k + 0.5 for k in range(most)], [str(k) for k in range(most)])
    axis.set_xlabel("devices of the host, in their order")
    axis.grid(visible=False)
    what = (
        "Rate of each device over the middle of all: orange is slower and blue faster, in full colour "
        f"from {100 * full:g} % on. A cross is a reject, a question mark undecided. "
        f"Tolerance {100 * tolerance:g} %."
    )
    simulated = " Simulated, no hardware." if verdicts[0].series.simulated else ""
    return finish(
        figure, f"fleet-{number}", f"Fleet: {name}", f"{what}{simulated} {subset}".rstrip()
    )


def _by_host(verdicts: Sequence[DeviceVerdict]) -> Hosts:
    """Return the devices of each host, by rack and name; what is beyond the width is left out."""
    hosts: Hosts = defaultdict(list)
    for verdict in verdicts:
        hosts[verdict.rack or "", verdict.hostname or "-"].append(verdict)
    ordered = sorted(hosts, key=lambda key: (natural_key(key[0]), natural_key(key[1])))
    return {key: hosts[key][:_WIDEST] for key in ordered}


def _host(key: tuple[str, str]) -> str:
    rack, host = (style.shortened(name, 24) for name in key)
    return f"{rack} · {host}" if rack else host


def _colour(ratio: float, full: float) -> tuple[float, ...]:
    """Return the colour of a ratio; that of 1 is clear, so that the page shows through."""
    strength = min(abs(ratio - 1) / full, 1.0)
    return to_rgba(SLOWER if ratio < 1 else FASTER, 0.08 + 0.92 * strength)

"""Published figures to lay beside rows, each with its source and what differs."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import TYPE_CHECKING

from raybench.analysis.accelerators import find
from raybench.analysis.cells import Cell, cells
from raybench.analysis.estimate import Estimate  # noqa: TC001 - get_type_hints reads it
from raybench.analysis.tables import as_table
from raybench.errors import ConfigError
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

MLPERF = "mlperf"
SHIPPED = {MLPERF: "mlperf_resnet50.csv"}
"""Names of the files that come with raybench."""
OF_MLPERF = (
    "MLPerf, closed division, Offline: LoadGen hands over all images as one query and 600 s or more pass "
    "until the last is done; trained weights, and images of ImageNet that were made ready in advance."
)
_NEEDED = ("model", "device", "items_per_s", "source")
_MOST_RATE = 1e15


@dataclass(frozen=True)
class PublishedRate:
    """One printed figure.

    Attributes:
        device: as the driver names it, or a chip of conf/accelerators.yaml.
        precision: None where the source does not say.
        batch_size: of a device; None where the source does not say.
        devices: that the figure is of.
        items_per_s: of all of them together.
        date: of publication, as far as the source says.
        differs: from how raybench measures, beyond what all figures of the file have in common.
    """

    model: str
    device: str
    precision: str | None
    batch_size: int | None
    devices: int
    items_per_s: float
    date: str | None
    software: str | None
    differs: str | None
    source: str


@dataclass(frozen=True)
class BesidePublished:
    """A published figure and the fastest point here on the same chip.

    Attributes:
        published_per_device: items/s of one device.
        here_per_device: the same here, with the interval of the point.
        ratio: here over published.
        here_device: as the driver names it.
        here_precision: of the fastest point, which is that of the figure where it is known.
        marks: see `marks.MARKS`.
    """

    published: PublishedRate
    published_per_device: float
    here_per_device: Estimate
    ratio: Estimate
    here_device: str | None
    here_engine: str | None
    here_precision: str | None
    here_batch_size: int | None
    here_devices: int
    here_transfers: bool | None
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """Published figures beside rows.

    Attributes:
        name: of the file.
        common: what differs in all figures of the file; None for files of others.
        missing: what has no counterpart, a sentence each.
    """

    name: str
    common: str | None
    rows: tuple[BesidePublished, ...]
    missing: tuple[str, ...]

    def as_table(self) -> pa.Table:
        """Return a row for each figure with a counterpart."""
        return as_table(BesidePublished, self.rows)


def beside_published(
    trials: pa.Table, figures: Sequence[PublishedRate], name: str = MLPERF
) -> Published:
    """Lay published figures beside the fastest points of the same network and chip.

    They are no limit and no verdict: harness, weights, versions and power differ.

    Args:
        trials: as `raybench.load` returns it; only points in closed loop count.
        figures: from `read_figures`.
        name: of the file.
    """
    good = [cell for cell in cells(trials) if cell.ok and not cell.series.is_open and cell.workers]
    rows = [row for figure in figures if (row := _beside(figure, good)) is not None]
    without = len(figures) - len(rows)
    missing = []
    if without:
        missing.append(
            f"{counted(without, 'figure')} of {len(figures)} {agreeing(without, 'has', 'have')} no row "
            "of the same network, chip and precision here."
        )
    if any(row.published.precision is None for row in rows):
        missing.append(
            "Where the source does not say the precision, the fastest one here stands beside it."
        )
    return Published(name, OF_MLPERF if name in SHIPPED else None, tuple(rows), tuple(missing))


def _beside(figure: PublishedRate, good: Iterable[Cell]) -> BesidePublished | None:
    alike = [
        cell
        for cell in good
        if cell.series.model == figure.model
        and figure.precision in (None, cell.series.precision)
        and _is_on(cell.series.device, figure.device)
    ]
    if not alike:
        return None
    fastest = max(alike, key=lambda cell: (cell.mean or 0.0) / (cell.workers or 1))
    devices, series = fastest.workers or 1, fastest.series
    per_device = figure.items_per_s / figure.devices
    here = fastest.estimate.over(devices)
    return BesidePublished(
        published=figure,
        published_per_device=per_device,
        here_per_device=here,
        ratio=here.over(per_device),
        here_device=series.device,
        here_engine=series.engine,
        here_precision=series.precision,
        here_batch_size=series.batch_size,
        here_devices=devices,
        here_transfers=series.transfers,
        marks=fastest.marks,
    )


def _is_on(device: str | None, named: str) -> bool:
    chip = find(device)
    return named == device or (chip is not None and chip.name == named)


def shipped_figures(name: str) -> tuple[PublishedRate, ...]:
    """Return the figures of a file that comes with raybench."""
    text = (files("raybench.analysis") / "data" / SHIPPED[name]).read_text(encoding="utf-8")
    return read_figures(text, name)


def read_figures(text: str, name: str) -> tuple[PublishedRate, ...]:
    """Return the figures of a CSV file with the columns of `PublishedRate`.

    Args:
        text: of the file; model, device, items_per_s and source are needed, the others may be empty.
        name: of the file, for messages.

    Raises:
        ConfigError: a column or a value is missing, unknown or no number.
    """
    reader = csv.DictReader(text.splitlines())
    known = [field.name for field in fields(PublishedRate)]
    named = reader.fieldnames or []
    absent = [column for column in _NEEDED if column not in named]
    unknown = [column for column in named if column not in known]
    if absent or unknown:
        wrong = f"lacks {', '.join(absent)}" if absent else f"has {unknown[0]!r}"
        raise ConfigError(f"{name} {wrong}. Its columns are {', '.join(known)}, in any order.")
    figures = tuple(_figure(row, name, line) for line, row in enumerate(reader, start=2))
    if not figures:
        raise ConfigError(f"{name} has no figure. Write one a line, with its source.")
    return figures


def _figure(row: Mapping[str, str | None], name: str, line: int) -> PublishedRate:
    values = {key: (value or "").strip() or None for key, value in row.items() if key is not None}
    absent = [column for column in _NEEDED if values.get(column) is None]
    if absent or None in row:
        wrong = f"has no {absent[0]}" if absent else "has more values than columns"
        raise ConfigError(f"{name}, line {line}, {wrong}. Correct the line.")
    rate = _number(values, "items_per_s", name, line)
    size = _number(values, "batch_size", name, line)
    devices = _number(values, "devices", name, line)
    assert rate is not None
    return PublishedRate(
        model=values["model"] or "",
        device=values["device"] or "",
        precision=values.get("precision"),
        batch_size=None if size is None else int(size),
        devices=1 if devices is None else int(devices),
        items_per_s=rate,
        date=values.get("date"),
        software=values.get("software"),
        differs=values.get("differs"),
        source=values["source"] or "",
    )


def _number(values: Mapping[str, str | None], column: str, name: str, line: int) -> float | None:
    written = values.get(column)
    if written is None:
        return None
    try:
        number = float(written)
    except ValueError:
        number = math.nan
    whole = column == "items_per_s" or number == math.floor(number or 0.5)
    if not (0 < number <= _MOST_RATE and whole):
        raise ConfigError(
            f"{name}, line {line}: {column} is {written!r}, not a positive number. Correct the line."
        )
    return number

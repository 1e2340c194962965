"""Accelerator: a chip and its dense peaks as its maker prints them, each with its source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml

from raybench.experiment import PRECISIONS
from raybench.paths import DATA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Peak:
    """One printed figure.

    Attributes:
        value: TFLOP/s (TOP/s for integers), dense, of one device.
        source: the document that prints it.
        clock_mhz: the clock to which it belongs; None where none is printed.
        clock_source: the document that prints the clock.
    """

    value: float
    source: str
    clock_mhz: float | None
    clock_source: str | None


@dataclass(frozen=True)
class Accelerator:
    """A chip.

    Attributes:
        name: as a reader knows it, e.g. "Tesla P40".
        pattern: regular expression for the whole of the driver's product name, case ignored; a
            part of a chip (MIG) is none.
        peaks: by precision (fp32, tf32, bf16, fp16, int8, fp8).
    """

    name: str
    pattern: str
    peaks: Mapping[str, Peak]


@lru_cache(maxsize=1)
def accelerators() -> tuple[Accelerator, ...]:
    """All chips of conf/accelerators.yaml."""
    text = (DATA / "conf" / "accelerators.yaml").read_text(encoding="utf-8")
    written = yaml.safe_load(text)
    return tuple(
        Accelerator(chip["name"], chip["pattern"], _peaks(chip["peaks"], dict(written["sources"])))
        for chip in written["chips"]
    )


def _peaks(lines: Sequence[Mapping[str, Any]], sources: Mapping[str, str]) -> dict[str, Peak]:
    found = {}
    for line in lines:
        source = sources[line["source"]]
        clock = line["clock_mhz"]
        where = None if clock is None else sources[line.get("clock_source", line["source"])]
        for precision in PRECISIONS:
            if precision in line:
                found[precision] = Peak(float(line[precision]), source, clock, where)
    return found


def find(device: str | None, known: tuple[Accelerator, ...] | None = None) -> Accelerator | None:
    """The chip that a driver's product name means; None when it is not known."""
    if device is None:
        return None
    for chip in accelerators() if known is None else known:
        if re.fullmatch(chip.pattern, device.strip(), re.IGNORECASE):
            return chip
    return None


def peak(device: str | None, precision: str | None) -> Peak | None:
    """The printed peak of a device in a precision; None when it is not known."""
    chip = find(device)
    return None if chip is None else chip.peaks.get(precision or "")

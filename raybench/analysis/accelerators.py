"""Accelerators and the dense peaks that their makers print, each with its source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml

from raybench.experiment import PRECISIONS, QUANTISED
from raybench.paths import DATA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_PRINTED_AS = {"int8_fp16": "int8"}
"""Name in the data sheets of a precision that they do not name: the peak of most of its work."""


@dataclass(frozen=True)
class Peak:
    """One printed figure.

    Attributes:
        value: TFLOP/s (TOP/s for integers), dense, of one device.
        source: the document that prints it.
        clock_mhz: the clock it refers to; None where none is printed.
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
        name: its usual name, e.g. "Tesla P40".
        pattern: regular expression for the driver's whole product name, ignoring case; it must
            not match a part of a chip (MIG).
        peaks: by precision (fp32, tf32, bf16, fp16, int8, fp8; that of int8 is int8_fp16's, too).
    """

    name: str
    pattern: str
    peaks: Mapping[str, Peak]


@lru_cache(maxsize=1)
def accelerators() -> tuple[Accelerator, ...]:
    """Return all chips of conf/accelerators.yaml."""
    text = (DATA / "conf" / "accelerators.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    sources = dict(content["sources"])
    return tuple(
        Accelerator(chip["name"], chip["pattern"], _peaks(chip["peaks"], sources))
        for chip in content["chips"]
    )


def _peaks(lines: Sequence[Mapping[str, Any]], sources: Mapping[str, str]) -> dict[str, Peak]:
    peaks = {}
    for line in lines:
        source = sources[line["source"]]
        clock = line["clock_mhz"]
        clock_source = None if clock is None else sources[line.get("clock_source", line["source"])]
        for precision in PRECISIONS:
            printed = line.get(_PRINTED_AS.get(precision, precision))
            if printed is not None:
                peaks[precision] = Peak(float(printed), source, clock, clock_source)
    return peaks


def arithmetic_unit(precision: str | None) -> str:
    """Return the unit of arithmetic in a precision: integer operations are not floating point."""
    return "TOP/s" if precision in QUANTISED else "TFLOP/s"


def find(device: str | None, chips: tuple[Accelerator, ...] | None = None) -> Accelerator | None:
    """Return the chip with a driver's product name; None if there is no entry for it."""
    if device is None:
        return None
    return _listed(device) if chips is None else _first(device, chips)


@lru_cache(maxsize=256)
def _listed(device: str) -> Accelerator | None:
    return _first(device, accelerators())


def _first(device: str, chips: tuple[Accelerator, ...]) -> Accelerator | None:
    named = (c for c in chips if re.fullmatch(c.pattern, device.strip(), re.IGNORECASE))
    return next(named, None)


def peak(device: str | None, precision: str | None) -> Peak | None:
    """Return the printed peak of a device in a precision; None if there is none."""
    chip = find(device)
    return None if chip is None else chip.peaks.get(precision or "")

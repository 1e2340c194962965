"""Accelerator: a chip and its dense peaks as its maker prints them, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Peak:
    """One printed figure.

    Attributes:
        value: TFLOP/s (TOP/s for integers), dense, of one device.
        source: document and place.
    """

    value: float
    source: str


@dataclass(frozen=True)
class Accelerator:
    """A chip.

    Attributes:
        name: as a reader knows it, e.g. "Tesla P40".
        pattern: regular expression that the driver's product name matches, case ignored.
        peaks: by precision (fp32, tf32, bf16, fp16, int8, fp8).
        boost_clock_mhz: the clock to which the peaks belong; None where it is not printed.
        memory_gb_per_s: memory bandwidth; None where it is not printed.
    """

    name: str
    pattern: str
    peaks: Mapping[str, Peak]
    boost_clock_mhz: Peak | None
    memory_gb_per_s: Peak | None


def accelerators() -> tuple[Accelerator, ...]:
    """All chips of conf/accelerators.yaml."""
    return ()


def find(device: str | None, known: tuple[Accelerator, ...] | None = None) -> Accelerator | None:
    """The chip that a driver's product name means; None when it is not known."""
    return None

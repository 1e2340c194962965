"""How full each resource of a device was: measured by GPM, else computed from arithmetic and bytes.

Fractions that GPM measured are the chip's own. Without them the arithmetic is set against the printed
peak, and the least traffic that the batches need against what memory and link can: such a share is
not the traffic itself, so it shows what is full and never that something is not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.accelerators import find
from raybench.analysis.feeding import FED
from raybench.analysis.traffic import bytes_in, traffic

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from raybench.analysis.cells import Cell
    from raybench.analysis.series import Series

FULL = {"memory": 0.75, "link": 0.75, "arithmetic": 0.6}
"""Share from which a kind of resource counts as full. Device memory and PCIe give about 80 to 90 % of
what clock and width promise at best, and the best kernels keep tensor cores busy for 60 to 80 %."""
IDLE_SM = 0.6
"""Share of multiprocessors with work below which a chip with nothing full waits for launches."""
LANE_BYTES_PER_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
"""What a lane of PCIe carries each way, by generation, after its line code."""

_MOST = 1e16
"""No device does more of anything in a second: a larger reading is damaged."""
_LEAST = 1e-12
"""Less than this is nothing."""
_UNITS = {
    "gpu_tensor_frac": ("tensor_cores", "tensor cores busy"),
    "gpu_fp32_frac": ("fp32_units", "units of fp32 busy"),
    "gpu_fp16_frac": ("fp16_units", "units of fp16 busy"),
    "gpu_int_frac": ("integer_units", "units of integers busy"),
}
_LINKS = {"pcie_rx_bytes_per_s": ("pcie_in", "to"), "pcie_tx_bytes_per_s": ("pcie_out", "from")}

RESOURCES = ("memory", "tensor_cores", "arithmetic", "fp32_units", "fp16_units", "integer_units",
             "pcie_in", "pcie_out")  # fmt: skip


@dataclass(frozen=True)
class Use:
    """How full one resource of the devices was.

    Attributes:
        resource: one of `RESOURCES`.
        kind: of `FULL`.
        share: 0 to 1.
        measured: by GPM; else computed, and at least this much.
        evidence: with the figure, without a stop, e.g. "device memory at 91 % of what it can".
    """

    resource: str
    kind: str
    share: float
    measured: bool
    evidence: str

    @property
    def full(self) -> bool:
        """Whether more of this is not to be had."""
        return self.share >= FULL[self.kind]


def uses(cell: Cell) -> tuple[Use, ...]:
    """Return what is known of each resource of a GPU, the fullest first; nothing for other cells."""
    if cell.series.simulated or cell.newest.get("device_kind") != "gpu":
        return ()
    known = (*_memory(cell), *_arithmetic(cell), *_pcie(cell))
    return tuple(sorted(known, key=lambda use: -use.share / FULL[use.kind]))


def waits_for_arrivals(series: Series, flags: Collection[str]) -> bool:
    """Return whether items came more slowly than they were served, so that a device did what was offered."""
    return series.is_open and "overloaded" not in flags


def waits_for_input(cell: Cell) -> str | None:
    """Return the evidence that devices waited for decoded images, without a stop; None if they were fed."""
    share = cell.get("input_wait_frac") or 0.0
    if share <= FED:
        return None
    return f"the device had nothing to do for {100 * share:.0f} % of the time for lack of decoded images"


def nothing_full(cell: Cell, known: Sequence[Use]) -> tuple[str, str] | None:
    """Return "launches" or "kernel_latency" and the evidence, where GPM saw nothing full; else None.

    Where arrivals or images are what a device waits for, nothing needs to be full.
    """
    if waits_for_arrivals(cell.series, cell.flags) or waits_for_input(cell):
        return None
    sm = _read(cell, "gpu_sm_frac")
    measured = [use for use in known if use.measured]
    if sm is None or not measured or any(use.full for use in known):
        return None
    busy = "; ".join(use.evidence for use in measured[:2])
    had_work = f"nothing was full: multiprocessors had work for {100 * sm:.0f} % of the time"
    if sm < IDLE_SM:
        small = "kernels too small for the chip, or gaps between them"
        return "launches", f"{had_work} ({small}); {busy}{_more_streams(cell)}"
    return "kernel_latency", f"{had_work} and waited inside kernels; {busy}"


def _more_streams(cell: Cell) -> str:
    """Return the advice to compute two batches at once, for an engine that can and has the option unused.

    A step reads what the one before has left, so no two compute at once.
    """
    try:
        options = json.loads(cell.series.engine_options or "{}")
    except ValueError:  # of a damaged row
        return ""
    engine, inflight = cell.series.engine or "", cell.series.inflight or 0
    if cell.series.context is not None or not engine.startswith("tensorrt") or inflight < 2:
        return ""
    if options.get("streams", 1) != 1:
        return ""
    return "; engine.streams=2 inflight=4 computes two batches at once"


def in_words(cell: Cell) -> str | None:
    """Return what of a GPU was full in one sentence, else what it waited for; None if unknown."""
    known = uses(cell)
    full = "; ".join(use.evidence for use in known if use.full)
    waits = nothing_full(cell, known)
    text = full or waits_for_input(cell) or (waits[1] if waits else "")
    return text[0].upper() + text[1:] + "." if text else None


def ops_per_byte(cell: Cell) -> tuple[float | None, bool | None]:
    """Return the arithmetic of a device for each byte of its memory's traffic, and whether measured.

    Without measured traffic it is the most that the least traffic allows.
    """
    gflops = _read(cell, "gflops_per_item")
    if gflops is None or cell.series.simulated:
        return None, None
    share, peak = _read(cell, "gpu_dram_frac"), _read(cell, "dram_peak_bytes_per_s")
    if share and peak:
        return gflops * 1e9 * _rate(cell) / (share * peak), True
    least = bytes_per_item(cell)
    return (gflops * 1e9 / least, False) if least else (None, None)


def bytes_per_item(cell: Cell) -> float | None:
    """Return the least traffic of device memory that an item needs, see `Traffic.least`.

    What layers hand on is left out, since caches may keep it. None where a part is unknown.
    """
    needed, batch = traffic(cell), cell.series.batch_size
    return needed.least / batch if needed is not None and batch else None


def _read(cell: Cell, column: str) -> float | None:
    """Return a reading; None for one that cannot be, as damaged rows may hold."""
    value, most = cell.get(column), 2.0 if column.endswith("_frac") else _MOST
    if value is None or not 0 <= value <= most:
        return None
    return value if value > _LEAST else 0.0


def _rate(cell: Cell) -> float:
    """Return items/s of one device."""
    return (cell.mean or 0.0) / (cell.workers or 1)


def _memory(cell: Cell) -> Iterator[Use]:
    share, peak = _read(cell, "gpu_dram_frac"), _read(cell, "dram_peak_bytes_per_s")
    if share is not None:
        most = "" if peak is None else f" ({peak / 1e9:,.0f} GB/s)"
        text = f"device memory at {100 * share:.0f} % of what it can{most}"
        yield Use("memory", "memory", share, True, text)
        return
    least = bytes_per_item(cell)
    if least is not None and peak:
        share = least * _rate(cell) / peak
        text = f"weights and inputs alone need {100 * share:.0f} % of what device memory can (computed)"
        yield Use("memory", "memory", share, False, text)


def _arithmetic(cell: Cell) -> Iterator[Use]:
    measured = [(column, share) for column in _UNITS if (share := _read(cell, column)) is not None]
    for column, share in measured:
        name, words = _UNITS[column]
        yield Use(name, "arithmetic", share, True, f"{words} for {100 * share:.0f} % of the time")
    chip, gflops = find(cell.series.device), _read(cell, "gflops_per_item")
    peak = None if chip is None else chip.peaks.get(cell.series.precision or "")
    if not measured and peak is not None and gflops is not None:
        share = _rate(cell) * gflops / 1e3 / peak.value
        text = f"arithmetic at {100 * share:.0f} % of the printed peak in {cell.series.precision} (computed)"
        yield Use("arithmetic", "arithmetic", share, False, text)


def _pcie(cell: Cell) -> Iterator[Use]:
    generation, width = _read(cell, "pcie_gen"), _read(cell, "pcie_width")
    lane = LANE_BYTES_PER_S.get(int(generation or 0))
    if generation is None or lane is None or not width:
        return
    link = f"gen{generation:.0f} x{width:.0f}"
    measured = False
    for column, (name, way) in _LINKS.items():
        carried = _read(cell, column)
        if carried is not None:
            measured, share = True, carried / (lane * width)
            text = f"PCIe {way} the device at {100 * share:.0f} % of {link}"
            yield Use(name, "link", share, True, text)
    inputs, batch = bytes_in(cell), cell.series.batch_size
    if not measured and cell.series.transfers and inputs and batch:
        share = inputs / batch * _rate(cell) / (lane * width)
        yield Use("pcie_in", "link", share, False,
                  f"inputs alone need {100 * share:.0f} % of PCIe {link} (computed)")  # fmt: skip

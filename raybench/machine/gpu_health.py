"""Health of one GPU: memory errors, rows of memory put out of use, and errors of the driver (XID).

Counts are of the driver's, so that what rose between two readings happened in between. Whatever the
driver refuses is None. An H200 (driver 580) allows all of it without privilege; an XID event itself has
not yet been seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.machine.nvml import Nvml

_CORRECTED, _UNCORRECTED, _VOLATILE = 0, 1, 0
"""NVML_MEMORY_ERROR_TYPE_..., and NVML_VOLATILE_ECC: since the driver was loaded."""
_XID = 0x8
"""nvmlEventTypeXidCriticalError."""
_MOST_EVENTS = 256
"""Events taken at a time: a driver that gives more than this has no end of them."""
_WHOLE_BOARD = 0xFFFFFFFF
"""The GPU instance that an event of the whole board names."""

COLUMNS = (
    "ecc_errors",
    "ecc_corrected",
    "remapped_rows",
    "remapped_rows_total",
    "row_remap_pending",
    "xid_errors",
    "xid_codes",
)


@dataclass(frozen=True)
class Health:
    """Counts of one GPU at one time.

    Attributes:
        uncorrected: memory errors that were not corrected, since the driver was loaded.
        corrected: memory errors that were.
        remapped_rows: rows of memory replaced in the GPU's life, for either kind of error.
        remap_pending: rows wait for a reset to be replaced, or could not be replaced.
        xids: codes of the driver's errors since the last reading, oldest first; None if its events
            cannot be read.
    """

    uncorrected: int | None = None
    corrected: int | None = None
    remapped_rows: int | None = None
    remap_pending: bool | None = None
    xids: tuple[int, ...] | None = None


class HealthMonitor:
    """Reads the health of a GPU and listens to errors of its driver, until closed.

    Args:
        nvml: the opened library.
        board: handle of the board.
        instance: number of the GPU instance for a MIG slice; errors of other slices do not count.
    """

    def __init__(self, nvml: Nvml, board: Any, instance: int | None = None) -> None:
        self._nvml = nvml
        self._board = board
        self._instance = instance
        self._events = nvml.ask("EventSetCreate")
        self._listens = self._events is not None and nvml.do(
            "DeviceRegisterEvents", board, _XID, self._events
        )

    def read(self) -> Health:
        """Return the counts now, and the errors since the last reading."""
        ask, board = self._nvml.ask, self._board
        rows = ask("DeviceGetRemappedRows", board)
        return Health(
            uncorrected=ask("DeviceGetTotalEccErrors", board, _UNCORRECTED, _VOLATILE),
            corrected=ask("DeviceGetTotalEccErrors", board, _CORRECTED, _VOLATILE),
            remapped_rows=None if rows is None else int(rows[0]) + int(rows[1]),
            remap_pending=None if rows is None else bool(rows[2] or rows[3]),
            xids=self._xids() if self._listens else None,
        )

    def _xids(self) -> tuple[int, ...]:
        """Return the codes of all events that wait, without waiting for more."""
        codes = []
        for _ in range(_MOST_EVENTS):
            event = self._nvml.ask("EventSetWait_v2", self._events, 0)
            if event is None:  # NVMLError_Timeout: there are no more
                break
            if self._instance is None or event.gpuInstanceId in (self._instance, _WHOLE_BOARD):
                codes.append(int(event.eventData))
        return tuple(codes)

    def close(self) -> None:
        """Stop listening."""
        if self._events is not None:
            self._nvml.ask("EventSetFree", self._events)
            self._events = None


def columns(healths: Sequence[Health]) -> dict[str, Any]:
    """Return the columns of a stream from its readings, oldest first; None for what is unknown."""
    known = [health.xids for health in healths if health.xids is not None]
    codes = [code for xids in known for code in xids]
    pending = [health.remap_pending for health in healths if health.remap_pending is not None]
    totals = [health.remapped_rows for health in healths if health.remapped_rows is not None]
    return {
        "ecc_errors": _rise([health.uncorrected for health in healths]),
        "ecc_corrected": _rise([health.corrected for health in healths]),
        "remapped_rows": _rise(totals),
        "remapped_rows_total": totals[-1] if totals else None,
        "row_remap_pending": pending[-1] if pending else None,
        "xid_errors": len(codes) if known else None,
        "xid_codes": sorted(set(codes)) if codes else None,
    }


def _rise(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return known[-1] - known[0] if len(known) > 1 else None

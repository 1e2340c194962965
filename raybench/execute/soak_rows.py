"""The rows of a soak: for each worker and interval, as soon as it has ended, and for each event."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import psutil

from raybench.execute.events import IntervalEnded, Note
from raybench.execute.running_trials import duration, items_per_s
from raybench.measure.soak_block import KINDS, SoakEvent
from raybench.measure.soak_summary import interval_columns
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.errors import PointError
    from raybench.execute.events import Listener
    from raybench.execute.rows import TrialWorkers
    from raybench.measure.running_stream import StreamSnapshot
    from raybench.measure.soak_record import SoakInterval, SoakRecord
    from raybench.planning.plan import PlannedTrial

Columns = dict[str, Any]
MOST_DRIFTS = 16
MOST_NAMED = 3
"""Events of an interval that its line names."""


class SoakRows:
    """Takes the blocks of a soak and announces the rows of each interval when it ends.

    Args:
        planned: the trial.
        experiment: its name.
        workers: of the trial.
        record: what is kept of the blocks.
        on_event: receives the rows, to be written at once.
    """

    def __init__(
        self,
        planned: PlannedTrial,
        experiment: str,
        workers: TrialWorkers,
        record: SoakRecord,
        on_event: Listener,
    ) -> None:
        self.record = record
        self._planned = planned
        self._experiment = experiment
        self._workers = workers
        self._on_event = on_event
        self._began_at = datetime.now(timezone.utc)
        self._first_rates: list[float] = []

    def begin(self, elapsed_s: float) -> None:
        """Note when the common start is; `elapsed_s` is negative before it."""
        self._began_at = datetime.now(timezone.utc) - timedelta(seconds=elapsed_s)

    def add(self, snapshots: Sequence[StreamSnapshot]) -> None:
        """Take the new blocks of every worker, and announce what has ended with them."""
        self.record.add(snapshots)
        self._announce(self.record.ended_intervals())

    def end(self) -> None:
        """Announce the open interval with what there is of it."""
        self._announce(self.record.cut_short())

    def end_early(self, error: PointError, elapsed_s: float) -> None:
        """Announce the open interval, and what ended the streams so long after their start."""
        self._announce(self.record.cut_short())
        event = SoakEvent(round(elapsed_s * 1e9), "ended", 0.0)
        ends = [
            {**self._event(self.record.ended, rank, event), "value": None, "text": str(error)}
            for rank in error.ranks or (0,)
        ]
        self._on_event(IntervalEnded(self._planned, self.record.ended, (), tuple(ends)))

    def conclude(self, workers: Sequence[Columns]) -> None:
        """Announce the drift of each device over the whole window, the steepest first.

        Args:
            workers: rows of `workers`, by rank.
        """
        known = [rank for rank, row in enumerate(workers) if row.get("drift_rel_lo") is not None]
        steepest = sorted(known, key=lambda rank: -abs(workers[rank]["drift_rel"]))
        for rank in steepest[:MOST_DRIFTS]:
            row, host = workers[rank], self._workers.members[rank].host.hostname
            drift, low, high = (100 * row[f"drift_rel{end}"] for end in ("", "_lo", "_hi"))
            self._on_event(
                Note(
                    f"soak: worker {rank} on {host} drifted by {drift:+.2f} % ({low:+.2f} to "
                    f"{high:+.2f} %) in {duration(row['window_s'])}"
                )
            )

    def _announce(self, intervals: Sequence[SoakInterval]) -> None:
        for interval in intervals:
            rows = [self._row(interval, rank) for rank in range(len(interval.workers))]
            events = [
                self._event(interval.number, rank, event)
                for rank, sums in enumerate(interval.workers)
                for event in sums.events
            ]
            ended = IntervalEnded(self._planned, interval.number, tuple(rows), tuple(events))
            self._on_event(ended)
            self._on_event(Note(self._line(rows, events)))

    @property
    def _window_ns(self) -> int:
        return (self.record.first or 0) * self.record.block_ns

    def _place(self, interval: int, rank: int) -> Columns:
        point, device = self._planned.point, self._workers.prepared[rank].device
        return {
            "worker": rank,
            "interval": interval,
            "experiment": self._experiment,
            "model": point.model,
            "precision": point.precision,
            "engine": point.engine,
            "batch_size": point.batch_size,
            "workers": point.workers,
            "hostname": self._workers.members[rank].host.hostname,
            "device": device.name,
            "gpu_uuid": device.uuid,
        }

    def _at(self, t_ns: int) -> datetime:
        return self._began_at + timedelta(microseconds=t_ns / 1e3)

    def _row(self, interval: SoakInterval, rank: int) -> Columns:
        sums = interval.workers[rank]
        columns = interval_columns(interval, rank, self._window_ns)
        if len(self._first_rates) <= rank:
            self._first_rates.append(columns["items_per_s"])
        return {
            **self._place(interval.number, rank),
            **columns,
            "started_at": self._at(sums.begin_ns),
            "ended_at": self._at(sums.end_ns),
            "ratio_to_first": columns["items_per_s"] / self._first_rates[rank],
            "driver_rss_mib": psutil.Process().memory_info().rss / 2**20,
        }

    def _event(self, interval: int, rank: int, event: SoakEvent) -> Columns:
        return {
            **self._place(interval, rank),
            "at": self._at(event.t_ns),
            "t_s": (event.t_ns - self._window_ns) / 1e9,
            "kind": event.kind,
            "value": event.value,
            "text": KINDS[event.kind].format(event.value),
        }

    def _line(self, rows: Sequence[Columns], events: Sequence[Columns]) -> str:
        """Return a line with what an interval gave."""
        after_s = max(row["t_start_s"] + row["window_s"] for row in rows)
        rate = sum(row["items_per_s"] for row in rows)
        worst = min(rows, key=lambda row: row["ratio_to_first"])
        change = 100 * (worst["ratio_to_first"] - 1)
        text = f"soak, {duration(after_s)}: {items_per_s(rate)} items/s"
        if rows[0]["interval"]:
            where = f" ({worst['hostname']}, worker {worst['worker']})" if len(rows) > 1 else ""
            text += f", {change:+.2f} % since the first row{where}"
        if not events:
            return text
        named = [f"{each['kind']} {each['value']:.3g}" for each in events if each["value"]]
        more = " ..." if len(named) > MOST_NAMED else ""
        return f"{text}; {counted(len(events), 'event')}: {', '.join(named[:MOST_NAMED])}{more}"

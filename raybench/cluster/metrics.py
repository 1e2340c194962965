"""Exports what a run is doing as Ray metrics, for Prometheus and Grafana.

The driver sets them about once a second from what it has read of the streams, so that nothing here
touches the timed part. Ray publishes them on the metrics port of the driver's node, with "ray_"
before their names.

The number of series stays small: readings are labelled with their device and not with the point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.measure.progress import TrialProgress
    from raybench.planning.plan import PlannedTrial

PHASES = ("", "start", "prepare", "warm-up", "measure", "layers")
"""Phases of a trial; `raybench_phase` is the place in this tuple, 0 when the trial has ended."""

READINGS = {
    "items_per_s": "items per second of the worker on the device",
    "latency_ms": "median latency of its last batches, milliseconds",
    "power_w": "power of the device, watts",
    "temp_c": "temperature of the device, degrees Celsius",
}
"""Description of each gauge about a device, by the name of its field in `WorkerStatus`."""


class RunMetrics:
    """The metrics of one run of an experiment.

    Args:
        experiment: its name, a label of every series.
        trials: number of trials in the plan.
    """

    def __init__(self, experiment: str, trials: int) -> None:
        from ray.util.metrics import Counter, Gauge

        def gauge(name: str, description: str, *labels: str) -> Any:
            metric = Gauge(f"raybench_{name}", description, tag_keys=("experiment", *labels))
            metric.set_default_tags({"experiment": experiment})
            return metric

        self._readings = {
            name: gauge(name, text, "host", "device") for name, text in READINGS.items()
        }
        self._rate = gauge("point_items_per_s", "items per second of a running point", "point")
        self._half_width = gauge(
            "point_half_width", "its interval's half-width, share of it", "point"
        )
        self._phase = gauge("phase", f"of a point: {PHASES[1:]} from 1, 0 when ended", "point")
        self._planned = gauge("trials_planned", "trials of points in the plan")
        self._rows = Counter(
            "raybench_trials", "trials that ended, by status", tag_keys=("experiment", "status")
        )
        self._rows.set_default_tags({"experiment": experiment})
        self._trials = trials
        self._points: dict[int, str] = {}
        """Label of the point of each running trial, by the trial's number in the plan."""
        self._devices: dict[int, set[tuple[str, str]]] = {}
        """Host and device of each worker of a running trial."""

    def trial_skipped(self, status: str) -> None:
        """Count a trial that has its row already."""
        self._rows.inc(tags={"status": status})

    def trial_started(self, planned: PlannedTrial) -> None:
        """Begin the series of a trial."""
        point = planned.point
        model = point.model.rsplit("/", 1)[-1]
        instances = f" instances {point.instances}" if point.instances > 1 else ""
        self._points[planned.number] = (
            f"{model} {point.precision} batch {point.batch_size} x{point.workers}{instances} "
            f"{point.engine}"
        )
        self.phase_changed(planned.number, "start")

    def phase_changed(self, number: int, phase: str) -> None:
        """Set the phase of trial `number`."""
        self._phase.set(PHASES.index(phase), tags=self._labels(number))

    def progress_updated(self, number: int, progress: TrialProgress) -> None:
        """Set the rates and readings of trial `number`."""
        self._planned.set(self._trials)  # Ray forgets a gauge that is not set again
        if progress.items_per_s is not None:
            self._rate.set(progress.items_per_s, tags=self._labels(number))
        if progress.relative is not None:
            self._half_width.set(progress.relative, tags=self._labels(number))
        for worker in progress.workers:
            self._devices.setdefault(number, set()).add((worker.host, worker.device))
            for name, metric in self._readings.items():
                value = getattr(worker, name)
                if value is not None:
                    metric.set(value, tags={"host": worker.host, "device": worker.device})

    def row_written(self, number: int, row: Mapping[str, Any]) -> None:
        """Count the row of trial `number` and set its series to zero."""
        self._rows.inc(tags={"status": row["status"]})
        if number not in self._points:
            return
        for metric in (self._phase, self._rate):
            metric.set(0, tags=self._labels(number))
        for host, device in self._devices.pop(number, set()):
            self._readings["items_per_s"].set(0, tags={"host": host, "device": device})
        del self._points[number]

    def _labels(self, number: int) -> dict[str, str]:
        return {"point": self._points.get(number, "")}

"""Monitor: what a run is doing, as metrics of Ray, for Prometheus and Grafana.

A view like that of the terminal: the driver tells it what it has learnt by looking, about once a
second, so that nothing here touches the timed stream. Ray carries the numbers to the metrics port
of the driver's node, with "ray_" before their names.

Series stay few: readings carry the device they come from and not the point, and a point has one
series that tells its phase.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.measure.progress import Glance
    from raybench.planning.plan import PlannedTrial

PHASES = ("", "start", "prepare", "warm-up", "measure", "layers")
"""The value of `raybench_phase`: 0 when the point has ended."""

READINGS = {
    "items_per_s": "items per second of the worker on the device",
    "latency_ms": "median latency of its last batches, milliseconds",
    "power_w": "power of the device, watts",
    "temp_c": "temperature of the device, degrees Celsius",
}
"""A gauge for each, by the name of the `Pulse`."""


class Monitor:
    """Sets the metrics of one experiment.

    Args:
        experiment: its name, a label of every series.
        steps: of the plan.
    """

    def __init__(self, experiment: str, steps: int) -> None:
        from ray.util.metrics import Counter, Gauge

        def gauge(name: str, text: str, *labels: str) -> Any:
            made = Gauge(f"raybench_{name}", text, tag_keys=("experiment", *labels))
            made.set_default_tags({"experiment": experiment})
            return made

        self._readings = {
            name: gauge(name, text, "host", "device") for name, text in READINGS.items()
        }
        self._rate = gauge("point_items_per_s", "items per second of a running point", "point")
        self._half = gauge("point_half_width", "its interval's half-width, share of it", "point")
        self._phase = gauge("phase", f"of a point: {PHASES[1:]} from 1, 0 when ended", "point")
        self._planned = gauge("trials_planned", "trials of points in the plan")
        self._rows = Counter(
            "raybench_trials", "trials that ended, by status", tag_keys=("experiment", "status")
        )
        self._rows.set_default_tags({"experiment": experiment})
        self._steps = steps
        self._points: dict[int, str] = {}
        self._devices: dict[int, set[tuple[str, str]]] = {}

    def skipped(self, number: int, step: PlannedTrial, status: str) -> None:
        """A trial whose row is there already counts as ended."""
        self._rows.inc(tags={"status": status})

    def step(self, number: int, step: PlannedTrial) -> None:
        """A trial begins."""
        point = step.point
        model = point.model.rsplit("/", 1)[-1]
        self._points[number] = (
            f"{model} {point.precision} batch {point.batch_size} x{point.workers} {point.engine}"
        )
        self.phase(number, "start")

    def phase(self, number: int, name: str) -> None:
        """It enters a phase."""
        self._phase.set(PHASES.index(name), tags=self._point(number))

    def look(self, number: int, glance: Glance) -> None:
        """The driver has looked. Ray forgets a gauge that is not set again."""
        self._planned.set(self._steps)
        if glance.items_per_s is not None:
            self._rate.set(glance.items_per_s, tags=self._point(number))
        if glance.relative is not None:
            self._half.set(glance.relative, tags=self._point(number))
        for pulse in glance.pulses:
            self._devices.setdefault(number, set()).add((pulse.host, pulse.device))
            for name, made in self._readings.items():
                value = getattr(pulse, name)
                if value is not None:
                    made.set(value, tags={"host": pulse.host, "device": pulse.device})

    def row(self, number: int, row: Mapping[str, Any]) -> None:
        """A trial has ended: what it was doing is done."""
        self._rows.inc(tags={"status": row["status"]})
        if self._points.get(number) is None:
            return
        for made in (self._phase, self._rate):
            made.set(0, tags=self._point(number))
        for host, device in self._devices.pop(number, set()):
            self._readings["items_per_s"].set(0, tags={"host": host, "device": device})
        del self._points[number]

    def note(self, text: str) -> None:
        """Words are for people."""

    def _point(self, number: int) -> dict[str, str]:
        return {"point": self._points.get(number, "")}

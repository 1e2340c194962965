from types import SimpleNamespace

import pytest

from raybench.cluster import metrics
from raybench.measure.progress import TrialProgress, WorkerStatus


def planned(number):
    """A trial of the plan, as far as the metrics need it."""
    point = SimpleNamespace(
        model="models/alexnet.onnx",
        precision="int8",
        batch_size=8,
        workers=2,
        instances=1,
        engine="simulated",
    )
    return SimpleNamespace(point=point, number=number)


POINT = {"point": "alexnet.onnx int8 batch 8 x2 simulated"}


@pytest.fixture
def values(monkeypatch):
    """The newest value of every metric, by name and labels, in place of Ray's."""
    values = {}

    class Metric:
        def __init__(self, name, description, tag_keys=()):
            self.name = name

        def set_default_tags(self, tags):
            pass

        def set(self, value, tags=None):
            values[(self.name, *sorted((tags or {}).items()))] = value

        def inc(self, value=1.0, tags=None):
            key = (self.name, *sorted((tags or {}).items()))
            values[key] = values.get(key, 0) + value

    monkeypatch.setattr("ray.util.metrics.Gauge", Metric)
    monkeypatch.setattr("ray.util.metrics.Counter", Metric)
    return values


def series(name, labels=None):
    return (f"raybench_{name}", *sorted((labels or {}).items()))


def test_a_point_has_values_from_its_start_to_its_row(values):
    run = metrics.RunMetrics("scaling", 3)
    run.trial_skipped("ok")
    run.trial_started(planned(1))
    assert values[series("phase", POINT)] == 1
    run.phase_changed(1, "measure")
    pulses = [
        WorkerStatus("a", "GPU 0", 60.0, 2.5, 300.0, 41.0),
        WorkerStatus("b", "GPU 0", 40.0, 2.6, None, None),
    ]
    run.progress_updated(1, TrialProgress(3.0, 10.0, 100.0, 0.01, pulses))
    assert values[series("phase", POINT)] == 4
    assert values[series("point_items_per_s", POINT)] == 100.0
    assert values[series("point_half_width", POINT)] == 0.01
    assert values[series("trials_planned")] == 3
    device = {"host": "a", "device": "GPU 0"}
    readings = [values[series(name, device)] for name in metrics.READINGS]
    assert readings == [60.0, 2.5, 300.0, 41.0]
    assert series("power_w", {"host": "b", "device": "GPU 0"}) not in values  # unknown is not 0
    run.row_written(1, {"status": "node_died"})
    assert values[series("phase", POINT)] == values[series("items_per_s", device)] == 0
    assert values[series("trials", {"status": "ok"})] == 1
    assert values[series("trials", {"status": "node_died"})] == 1


def test_the_number_of_series_does_not_grow_with_the_points(values):
    run = metrics.RunMetrics("scaling", 50)
    pulses = [WorkerStatus("a", "GPU 0", 1.0, 1.0, 1.0, 1.0)]
    for number in range(50):
        run.trial_started(planned(number))
        run.progress_updated(number, TrialProgress(1.0, 2.0, 1.0, None, pulses))
        run.row_written(number, {"status": "ok"})
    assert len(values) == len(metrics.READINGS) + 4


def test_the_row_of_a_trial_that_never_started_is_counted(values):
    metrics.RunMetrics("scaling", 1).row_written(0, {"status": "infeasible"})
    assert values[series("trials", {"status": "infeasible"})] == 1

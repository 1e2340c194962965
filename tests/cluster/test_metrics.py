from types import SimpleNamespace

import pytest

from raybench.cluster import metrics
from raybench.measure.progress import Glance, Pulse

STEP = SimpleNamespace(
    point=SimpleNamespace(
        model="models/alexnet.onnx", precision="int8", batch_size=8, workers=2, engine="simulated"
    )
)
POINT = {"point": "alexnet.onnx int8 batch 8 x2 simulated"}


@pytest.fixture
def told(monkeypatch):
    """Every value that is set, the newest by name and labels; Ray itself is not asked."""
    values = {}

    class Metric:
        def __init__(self, name, text, tag_keys=()):
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


def test_a_point_is_told_from_its_start_to_its_row(told):
    made = metrics.Monitor("scaling", 3)
    made.skipped(0, STEP, "ok")
    made.step(1, STEP)
    assert told[series("phase", POINT)] == 1
    made.phase(1, "measure")
    pulses = [
        Pulse("a", "GPU 0", 60.0, 2.5, 300.0, 41.0),
        Pulse("b", "GPU 0", 40.0, 2.6, None, None),
    ]
    made.look(1, Glance(3.0, 10.0, 100.0, 0.01, pulses))
    assert told[series("phase", POINT)] == 4
    assert told[series("point_items_per_s", POINT)] == 100.0
    assert told[series("point_half_width", POINT)] == 0.01
    assert told[series("trials_planned")] == 3
    here = {"host": "a", "device": "GPU 0"}
    assert [told[series(name, here)] for name in metrics.READINGS] == [60.0, 2.5, 300.0, 41.0]
    assert series("power_w", {"host": "b", "device": "GPU 0"}) not in told  # unknown is not 0
    made.row(1, {"status": "node_died"})
    assert told[series("phase", POINT)] == told[series("items_per_s", here)] == 0
    assert told[series("trials", {"status": "ok"})] == 1
    assert told[series("trials", {"status": "node_died"})] == 1


def test_series_do_not_grow_with_the_points(told):
    made = metrics.Monitor("scaling", 50)
    pulses = [Pulse("a", "GPU 0", 1.0, 1.0, 1.0, 1.0)]
    for number in range(50):
        made.step(number, STEP)
        made.look(number, Glance(1.0, 2.0, 1.0, None, pulses))
        made.row(number, {"status": "ok"})
    assert len(told) == len(metrics.READINGS) + 4


def test_a_row_of_a_step_that_never_began_is_counted(told):
    metrics.Monitor("scaling", 1).row(0, {"status": "infeasible"})
    assert told[series("trials", {"status": "infeasible"})] == 1

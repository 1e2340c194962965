"""The fakes and the Ray classes have the methods that the protocols promise."""

import inspect

import pytest
from helpers import fake_workers

from raybench.cluster.reservation import RayReservation
from raybench.cluster.worker_group import RayWorkerGroup, RayWorkerStream
from raybench.execute import workers

PAIRS = [
    (workers.Reservation, fake_workers.FakeReservation, RayReservation),
    (workers.WorkerGroup, fake_workers.FakeWorkerGroup, RayWorkerGroup),
    (workers.WorkerStream, fake_workers.FakeStream, RayWorkerStream),
]


def methods(cls):
    """Parameters of the public methods of a class, by name."""
    functions = inspect.getmembers(cls, inspect.isfunction)
    return {
        name: list(inspect.signature(function).parameters)
        for name, function in functions
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("protocol", "fake", "real"), PAIRS)
def test_fake_and_ray_class_take_the_arguments_of_the_protocol(protocol, fake, real):
    promised = methods(protocol)
    assert 1 <= len(promised) <= 5
    for cls in (fake, real):
        assert {name: methods(cls).get(name) for name in promised} == promised

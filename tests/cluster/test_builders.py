"""Builders that share a GPU: processes of their own on one device of a real Ray cluster."""

import contextlib
import os
import signal

import psutil
import pytest
import ray

from raybench.cluster.reservation import reserve
from raybench.config.compose import read
from raybench.errors import PointError
from raybench.planning.plan import make_plan

pytestmark = pytest.mark.ray


def visible(_):
    return os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.fixture
def point(cluster):
    words = ["experiment=scaling", "model=alexnet", "engine=simulated", "grid.workers=1"]
    request = read(words).resolve(dict(cluster.devices))
    return make_plan(request.experiment, request.devices, request.cluster.isolation, "").points[0]


@pytest.fixture
def builders(cluster, point):
    """Start three builders on one GPU; gives the reservation, their slots and their groups."""
    with reserve(cluster.nodes, {"gpu": 1}, 300) as reservation:
        slots = reservation.slots[0].divided(3)
        groups = [reservation.start_workers([s], point, "test", "prepare/x", 300) for s in slots]
        yield reservation, slots, groups


def test_builders_are_processes_of_their_own_on_the_same_gpu(builders):
    members = [group.members[0] for group in builders[2]]
    assert len({member.host.pid for member in members}) == 3
    calls = [member.actor.__ray_call__.remote(visible) for member in members]
    assert len(set(ray.get(calls, timeout=60))) == 1


def test_a_builder_that_dies_leaves_the_others_and_its_place(builders, point):
    reservation, slots, groups = builders
    dead = groups[1].members[0].host.pid
    os.kill(dead, signal.SIGKILL)
    with pytest.raises(PointError):
        groups[1].build(0, 60, ())
    reservation.stop([slots[1]])
    others = [groups[number].members[0] for number in (0, 2)]
    for member in others:
        assert ray.get(member.actor.clock_ns.remote(), timeout=60) > 0
    again = reservation.start_workers([slots[1]], point, "test", "prepare/x", 300)
    assert again.fresh
    assert again.members[0].host.pid != dead


def test_the_whole_gpu_is_measured_on_when_its_builders_have_ended(builders, point):
    reservation, slots, groups = builders
    reservation.stop(slots)
    group = reservation.start_workers(reservation.slots, point, "test", "", 300)
    assert group.fresh
    for builder in groups:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(builder.members[0].host.pid).wait(30)

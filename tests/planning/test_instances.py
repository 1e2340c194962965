"""Instances: several engines on each device of a point."""

from __future__ import annotations

import pytest
from helpers.plans import expanded

from raybench.config.axes import parse_axis
from raybench.errors import ConfigError, NodeDied, WorkerDied
from raybench.planning.attempts import Attempt
from raybench.planning.device_health import DeviceHealth
from raybench.planning.plan import PlannedTrial
from raybench.planning.scheduler import Scheduler, SchedulingPolicy
from raybench.planning.slots import DeviceSlot

SLOTS = tuple(DeviceSlot("gpu", node, number) for node in "ab" for number in (0, 1))


def points(*words):
    return {p.instances: p for p in expanded("model=alexnet", "precision=fp32", *words)[1]}


def test_one_instance_is_the_point_that_it_always_was():
    usual = expanded("model=alexnet", "precision=fp32", "workers=2", "batch_size=8")[1][0]
    both = points("workers=2", "batch_size=8", "instances=[1,2]")
    assert both[1].id == usual.id
    assert both[2].id != usual.id
    assert "instances" not in usual.described()


def test_the_workers_of_a_device_follow_one_another_and_builders_share_nothing():
    point = points("workers=2", "instances=3")[3]
    attempt = Attempt(PlannedTrial(point, 0, 0), SLOTS[:2], 1)
    assert [(slot.number, slot.part, slot.parts) for slot in attempt.worker_slots] == [
        (number, part, 3) for number in (0, 1) for part in (0, 1, 2)
    ]
    assert attempt.device_of(2) == SLOTS[0]
    assert attempt.device_of(3) == SLOTS[1]
    build = Attempt(PlannedTrial(point, 0, 0, purpose="prepare"), SLOTS[:1], 1)
    assert build.worker_slots == SLOTS[:1]


def test_a_trial_with_instances_takes_as_many_devices_as_it_has_workers():
    each = points("workers=2", "instances=[1,4]")
    trials = [PlannedTrial(point, k, 0, k) for k, point in enumerate(each.values())]
    scheduler = Scheduler(trials, SLOTS, SchedulingPolicy("gpu"))
    first, second = scheduler.next_attempt(), scheduler.next_attempt()
    assert len(first.slots) == len(second.slots) == 2
    assert not {*first.slots} & {*second.slots}


def test_the_parts_of_a_device_are_never_more_than_the_device():
    for parts in range(1, 49):
        slots = SLOTS[0].divided(parts)
        assert sum(round(slot.share * 10_000) for slot in slots) <= 10_000
        assert all(slot.share > 0 for slot in slots)


def test_the_device_of_a_failed_instance_is_suspected_and_its_node_is_removed():
    point = points("workers=2", "instances=2")[2]
    planned = PlannedTrial(point, 0, 0)
    health = DeviceHealth(SLOTS)
    error = WorkerDied("broken")
    error.ranks = (3,)
    health.record(Attempt(planned, (SLOTS[0], SLOTS[2]), 1), error)
    assert health.suspects(planned) == {SLOTS[2]}
    lost = NodeDied("gone")
    lost.ranks = (2, 3)
    health.record(Attempt(planned, (SLOTS[0], SLOTS[2]), 2), lost)
    assert {slot.node for slot in health.usable} == {"a"}


@pytest.mark.parametrize("written", [0, -1, 49, 1.5, "auto", "max"])
def test_a_number_of_instances_that_no_device_can_have_is_refused_in_one_sentence(written):
    with pytest.raises(ConfigError, match="instances takes whole numbers from 1 to 48, not"):
        parse_axis("instances", written)


def test_the_memory_limit_of_a_device_is_shared():
    each = points("instances=[1,4]", "device.memory_limit=8GiB")
    assert each[1].engine_memory_limit_bytes == 8 << 30
    assert each[4].engine_memory_limit_bytes == 2 << 30

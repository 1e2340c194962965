"""Loads that are shares of capacity come after the closed loop whose rate they are a share of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.plans import planned

from raybench.errors import ConfigError
from raybench.planning.scheduler import Scheduler, SchedulingPolicy
from raybench.planning.slots import DeviceSlot


def plan_of(*words):
    return planned("model=alexnet", "workers=1", "trials=1", "batch_size=8", *words)


def test_a_closed_loop_is_added_and_comes_first_in_the_first_round():
    for seed in range(20):
        plan = plan_of("load=[0.5,0.9]", f"seed={seed}", "trials=2")
        assert [point.load for point in plan.points] == ["closed", "0.5", "0.9"]
        first = [trial.point.load for trial in plan.trials if trial.trial == 0]
        assert first[0] == "closed"
        assert sorted(first) == ["0.5", "0.9", "closed"]


def test_a_closed_loop_that_is_asked_for_is_not_added_twice():
    plan = plan_of("load=[0.5,closed,poisson(100)]")
    assert sorted(point.load for point in plan.points) == ["0.5", "closed", "poisson(100)"]


def test_a_rate_needs_no_closed_loop():
    assert [point.load for point in plan_of("load=constant(1e3)").points] == ["constant(1000)"]


def test_closed_points_have_the_ids_that_they_had_whatever_an_open_loop_is_set_to():
    (plain,) = plan_of().points
    (set_to,) = plan_of("measure.max_wait_ms=5").points
    assert plain.id == set_to.id
    (waits,) = plan_of("load=poisson(10)", "measure.max_wait_ms=5").points
    (none,) = plan_of("load=poisson(10)").points
    assert len({plain.id, waits.id, none.id}) == 3
    assert replace(none, load="closed").id == plain.id


@pytest.mark.parametrize(
    "load",
    [
        "poisson(0)",
        "poisson(-1)",
        "0",
        "2.5",
        "2000",
        "poisson",
        "uniform(3)",
        "nan",
        "poisson(1e12)",
    ],
)
def test_a_load_that_is_none_is_refused_with_what_one_is(load):
    with pytest.raises(ConfigError, match=r"grid.load takes closed, poisson\(RATE\)"):
        plan_of(f"load={load}")


def test_a_shared_queue_is_a_point_of_its_own_and_an_unknown_balancer_is_refused():
    split, shared = (
        plan_of("load=poisson(10)", *words).points[0]
        for words in ((), ("measure.balancer=shared",))
    )
    assert split.id != shared.id
    assert split.id == plan_of("load=poisson(10)", "measure.balancer=split").points[0].id
    assert split.closed.id == shared.closed.id
    with pytest.raises(ConfigError, match="balancer 'common'"):
        plan_of("load=poisson(10)", "measure.balancer=common")


def test_a_share_waits_for_its_closed_loop_though_a_device_is_free():
    plan = plan_of("load=[0.5,closed]")
    slots = [DeviceSlot("gpu", "node", number) for number in range(4)]
    scheduler = Scheduler(plan.trials, slots, SchedulingPolicy("gpu"))
    closed = scheduler.next_attempt()
    assert closed.planned.point.load == "closed"
    assert scheduler.next_attempt() is None
    scheduler.end(closed, None)
    assert scheduler.next_attempt().planned.point.load == "0.5"

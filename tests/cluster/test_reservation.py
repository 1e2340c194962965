"""Which devices are reserved and which workers are reused, without Ray."""

from types import SimpleNamespace

import pytest

from raybench.cluster import reservation
from raybench.cluster.nodes import Node
from raybench.errors import Interrupted
from raybench.planning.slots import DeviceSlot

SMALL = Node("1", "small", {"gpu": 1, "cpu": 2}, "A100")
LARGE = Node("2", "large", {"gpu": 3, "cpu": 0}, "H100")
SLOTS = (DeviceSlot("gpu", "1", 0), DeviceSlot("gpu", "2", 0))


class FakeActor:
    """A worker that has started at once."""

    def __init__(self, group, kind, label, place):
        self.label, self.place = label, place
        self.killed = False
        self.host = SimpleNamespace(remote=lambda: f"host of {label}")


@pytest.fixture
def held(monkeypatch):
    """Two slots whose workers are `FakeActor`s."""
    monkeypatch.setattr(reservation, "_start_actor", FakeActor)
    monkeypatch.setattr(reservation, "_kill", lambda actor: setattr(actor, "killed", True))
    monkeypatch.setattr(
        reservation.ray_errors, "get_all", lambda calls, timeout_s, phase, nodes: calls
    )
    return reservation.RayReservation(dict.fromkeys(SLOTS, "group"), None)


def start(held, label, reuse_key="", slots=SLOTS):
    return held.start_workers(slots, "point", label, reuse_key, 30.0)


def actors(group):
    return [member.actor for member in group.members]


def test_workers_start_on_their_slots_by_rank(held):
    group = start(held, "a")
    assert group.fresh
    assert [member.node_id for member in group.members] == ["1", "2"]
    assert [member.host for member in group.members] == [
        "host of a worker 0",
        "host of a worker 1",
    ]


def test_parked_workers_are_reused_for_the_same_key_only(held):
    first = start(held, "a", "trial 0")
    held.park(SLOTS, "trial 0")
    second = start(held, "b", "trial 0")
    assert actors(second) == actors(first)
    assert not second.fresh
    held.park(SLOTS, "trial 0")
    third = start(held, "c", "trial 1")
    assert third.fresh
    assert all(actor.killed for actor in actors(first))


def test_workers_that_were_not_parked_are_never_reused(held):
    for key in ("", "trial 0"):
        first = start(held, "a", key)
        assert start(held, "b", key).fresh
        assert all(actor.killed for actor in actors(first))


def test_a_group_is_not_fresh_if_one_of_its_workers_is_reused(held):
    start(held, "a", "key", SLOTS[:1])
    held.park(SLOTS[:1], "key")
    assert not start(held, "b", "key").fresh


def test_stopping_slots_kills_their_workers_alone(held):
    first, second = actors(start(held, "a"))
    held.stop(SLOTS[:1])
    assert first.killed
    assert not second.killed


def test_nothing_starts_on_a_closed_reservation(held):
    group = start(held, "a")
    held.park(SLOTS, "key")
    held.close()
    held.close()
    assert all(actor.killed for actor in actors(group))
    with pytest.raises(Interrupted):
        start(held, "b", "key")


@pytest.mark.parametrize(
    ("wanted", "placement", "devices"),
    [
        ({"gpu": 2}, "pack", ["GPU 0 of large", "GPU 1 of large"]),
        ({"gpu": 2}, "spread", ["GPU 0 of large", "GPU 0 of small"]),
        ({"gpu/A100": 1, "cpu": 1}, "pack", ["GPU 0 of small", "core 0 of small"]),
        ({"gpu/A100": 2, "gpu": 1}, "pack", ["GPU 0 of small", "GPU 0 of large"]),
    ],
)
def test_devices_are_chosen_by_kind_and_placement(wanted, placement, devices):
    slots = reservation._choose([SMALL, LARGE], wanted, placement)
    assert [str(slot) for slot in slots] == devices

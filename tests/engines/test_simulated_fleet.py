"""Devices of a simulated fleet that differ: one slow device, one slow host, a spread between all."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from raybench.cluster.reservation import places
from raybench.config.compose import read
from raybench.engines.base import Load, Place
from raybench.engines.simulated import SimulatedEngine, SimulatedSettings
from raybench.errors import ConfigError
from raybench.machine.devices import Device
from raybench.planning.plan import make_plan
from raybench.planning.slots import DeviceSlot

LOAD = Load(
    model=SimpleNamespace(name="lenet", precision="fp32"),
    batches=SimpleNamespace(batch_size=8),
    device=Device("gpu", "simulated", 0, None, "0"),
    inflight=2,
    transfers=True,
    options=None,
    memory_limit_bytes=None,
    cache_dir=None,
)


def batch_ns(device, host=0, **options):
    load = replace(LOAD, options=SimulatedSettings(**options), place=Place(device, host))
    return SimulatedEngine.load(load)._duration_ns(0)


def point_id(*words):
    words = ["experiment=scaling", "model=lenet", "engine=simulated", "grid.workers=1", *words]
    request = read(words).resolve({"gpu": 1, "cpu": 1})
    return make_plan(request.experiment, request.devices, "node", "").points[0].id


def test_a_slow_device_is_slow_by_its_place_and_not_by_its_rank():
    slow = {"slow_device": 3, "slow_drop": 0.07}
    assert batch_ns(3, **slow) * 0.93 == pytest.approx(batch_ns(2, **slow), rel=1e-6)
    assert batch_ns(0, **slow) == batch_ns(2, **slow)  # rank 0 of a trial alone is on any device


def test_all_devices_of_a_slow_host_are_slow_and_those_of_others_are_not():
    slow = {"slow_host": 1, "slow_drop": 0.5}
    assert batch_ns(2, 1, **slow) == batch_ns(3, 1, **slow) == 2 * batch_ns(1, 0, **slow)


def test_each_device_keeps_its_own_speed_in_every_process():
    speeds = [batch_ns(device, device_spread=0.01) for device in range(64)]
    assert speeds == [batch_ns(device, device_spread=0.01) for device in range(64)]
    assert len(set(speeds)) == 64
    assert 0.5 < 100 * (max(speeds) / min(speeds) - 1) < 10


def test_each_build_keeps_its_own_speed_and_plan():
    options = SimulatedSettings(build_spread=0.02)
    loads = [replace(LOAD, options=options, build=build) for build in range(32)]
    engines = [SimulatedEngine.load(load) for load in loads]
    assert len({engine._duration_ns(0) for engine in engines}) == 32
    assert len({engine.info.engine_sha256 for engine in engines}) == 32
    again = SimulatedEngine.load(loads[7])
    assert again._duration_ns(0) == engines[7]._duration_ns(0)
    assert again.info.engine_sha256 == engines[7].info.engine_sha256
    plain = SimulatedEngine.load(replace(LOAD, options=SimulatedSettings(), build=3))
    assert plain.info.engine_sha256 is None
    assert plain._duration_ns(0) == SimulatedEngine.load(
        replace(loads[0], options=SimulatedSettings())
    )._duration_ns(0)


def outputs(device, now_s, **options):
    load = replace(LOAD, options=SimulatedSettings(**options), place=Place(device))
    engine = SimulatedEngine.load(load)
    engine._born_ns -= int(now_s * 1e9)
    return {name: values.tolist() for name, values in engine.outputs().items()}


def test_the_outputs_of_the_slow_device_flip_at_their_time_and_those_of_others_never():
    flips = {"slow_device": 3, "flip_bit_s": 100.0}
    sound = outputs(2, 0, **flips)
    assert outputs(3, 0, **flips) == outputs(2, 200, **flips) == sound
    assert outputs(3, 200, **flips) != sound
    assert outputs(3, 0, slow_device=3, flip_bit_s=-1) == outputs(3, 200, **flips)


def test_without_a_flip_nothing_is_computed_and_there_are_no_outputs():
    assert outputs(0, 0) == {}


@pytest.mark.parametrize(
    "word", ["slow_device=-1", "slow_host=-1", "device_spread=0.0", "flip_bit_s=0.0"]
)
def test_at_its_default_an_option_is_in_no_id(word):
    assert point_id(f"engine.{word}") == point_id()


@pytest.mark.parametrize(
    "word", ["slow_device=1", "slow_host=1", "device_spread=0.01", "flip_bit_s=9"]
)
def test_any_other_value_is_a_point_of_its_own(word):
    assert point_id(f"engine.{word}") != point_id()


@pytest.mark.parametrize("word", ["slow_drop=1", "slow_drop=-0.1", "throttle_drop=nan"])
def test_what_would_leave_no_speed_is_refused_before_anything_runs(word):
    with pytest.raises(ConfigError, match=f"engine.{word.split('=')[0]} takes a share from 0 to"):
        point_id(f"engine.{word}")


def test_places_follow_names_of_hosts_and_count_each_kind_from_0():
    slots = [
        DeviceSlot("gpu", "x", 1, "b"),
        DeviceSlot("gpu", "y", 0, "a"),
        DeviceSlot("cpu", "x", 0, "b"),
        DeviceSlot("gpu", "x", 0, "b"),
    ]
    assert [places(slots)[slot] for slot in slots] == [
        Place(2, 1),
        Place(0, 0),
        Place(0, 1),
        Place(1, 1),
    ]

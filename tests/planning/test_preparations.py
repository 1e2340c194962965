from collections import Counter
from dataclasses import replace

from helpers.plans import DEVICES, expanded

from raybench.config.compose import read
from raybench.planning.expansion import expand
from raybench.planning.plan import PlannedTrial, order_trials
from raybench.planning.preparations import preparations
from raybench.planning.scheduler import Scheduler, SchedulingPolicy
from raybench.planning.slots import DeviceSlot


def prepared(device, engine, *kinds, words=()):
    words = [*words, "experiment=precision", f"device={device}", f"engine={engine}", "trials=2"]
    words += ["precision=[fp32,int8]", "batch_size=[1,8]", "workers=[1,2]", "inflight=[1,2]"]
    request = read(words).resolve(DEVICES)
    points = expand(request.experiment, DEVICES, {"alexnet": "a", "googlenet": "g"})
    return preparations(order_trials(request.experiment, points, DEVICES).trials, kinds)


def test_each_graph_is_prepared_once_by_one_worker():
    on_cores = prepared("cpu", "openvino")
    graphs = {(planned.point.model, planned.point.precision) for planned in on_cores}
    assert len(graphs) == len(on_cores) == 4
    assert all(p.purpose == "prepare" and p.point.workers == 1 for p in on_cores)
    assert len(prepared("gpu", "onnxruntime")) == 4  # it keeps no plans
    assert prepared("gpu", "simulated") == ()


def test_each_engine_plan_is_prepared_once_for_each_kind_of_node():
    assert len(prepared("gpu", "tensorrt")) == 8
    assert len(prepared("gpu", "tensorrt", words=["engine.largest_batch=8"])) == 4
    one = tuple(DeviceSlot("gpu", node, number) for node in "ab" for number in (0, 1))
    other, cores = (DeviceSlot("gpu", "c", 0),), (DeviceSlot("cpu", "d", 0),)
    on_kinds = prepared("gpu", "tensorrt", one, other, cores)
    assert Counter(planned.allowed_slots for planned in on_kinds) == {one: 8, other: 8}


def test_a_preparation_runs_on_the_kind_of_device_that_it_is_for():
    _, points = expanded("model=alexnet", "workers=1")
    slots = [DeviceSlot("gpu", node, 0) for node in "abc"]
    planned = PlannedTrial(points[0], 0, 0, purpose="prepare")
    trials = [replace(planned, allowed_slots=(slot,)) for slot in reversed(slots)]
    scheduler = Scheduler(trials, slots, SchedulingPolicy("gpu"))
    started = [scheduler.next_attempt() for _ in range(4)]
    assert started[3] is None
    assert [attempt.slots for attempt in started[:3]] == [(slot,) for slot in slots[::-1]]

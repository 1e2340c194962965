from collections import Counter
from dataclasses import replace

from raybench.config.compose import compose
from raybench.experiment import expand
from raybench.planning.plan import PlannedTrial, plan, preparations, standing
from raybench.planning.scheduler import Scheduler
from raybench.planning.slots import DeviceSlot

DEVICES = {"gpu": 4, "cpu": 2}


def made(*words):
    request = compose(["experiment=scaling", "engine=simulated", *words], lambda settings: DEVICES)
    points = expand(request.experiment, DEVICES, {"alexnet": "a", "googlenet": "g"})
    return request.experiment, points


def test_every_round_visits_every_point_once_in_an_order_of_its_own():
    experiment, points = made("trials=3")
    steps = plan(experiment, points, DEVICES).steps
    rounds = [[s.index for s in steps if s.trial == trial] for trial in range(3)]
    assert all(sorted(visit) == list(range(6)) for visit in rounds)
    assert len({tuple(visit) for visit in rounds}) > 1
    assert [s.trial for s in steps] == sorted(s.trial for s in steps)


def test_the_same_seed_gives_the_same_order_and_grid_order_keeps_the_files():
    experiment, points = made("trials=2")
    assert plan(experiment, points, DEVICES) == plan(experiment, points, DEVICES)
    other = plan(replace(experiment, seed=5), points, DEVICES)
    assert other.steps != plan(experiment, points, DEVICES).steps
    ordered = plan(replace(experiment, order="grid"), points, DEVICES)
    assert [s.index for s in ordered.steps] == list(range(6)) * 2


def test_points_that_need_more_devices_than_there_are_have_a_reason_and_no_step():
    experiment, points = made("workers=[1,8]")
    found = plan(experiment, points, DEVICES)
    assert {s.point.workers for s in found.steps} == {1}
    assert all("needs 8 GPUs and the cluster has 4" in why for why in found.infeasible.values())


def test_what_was_infeasible_is_tried_when_nothing_forbids_it_any_more():
    experiment, points = made("model=alexnet", "workers=[1,8]", "batch_size=[1,2,4]")
    found = plan(experiment, points, DEVICES)
    small = {point.batch_size: point.id for point in points if point.workers == 1}
    wide = {point.batch_size: point.id for point in points if point.workers == 8}
    finals = {
        (small[1], 0): "ok",
        (small[2], 0): "out_of_memory",
        (small[4], 0): "infeasible",  # by the row above
        (wide[1], 0): "infeasible",  # by the devices there are
    }
    assert standing(found, finals) == finals
    del finals[small[2], 0]
    assert standing(found, finals) == {(small[1], 0): "ok", (wide[1], 0): "infeasible"}


def test_each_graph_is_prepared_once_and_on_a_gpu_each_plan():
    def shared(device, engine, *kinds, words=()):
        words = [*words, "experiment=precision", f"device={device}", f"engine={engine}", "trials=2"]
        words += ["batch_size=[1,8]", "workers=[1,2]", "inflight=[1,2]"]
        request = compose(words, lambda settings: DEVICES)
        points = expand(request.experiment, DEVICES, {"alexnet": "a", "googlenet": "g"})
        return preparations(plan(request.experiment, points, DEVICES).steps, kinds)

    on_cores = shared("cpu", "openvino")
    made = {(step.point.model, step.point.precision) for step in on_cores}
    assert len(made) == len(on_cores) == 4
    assert all(step.purpose == "prepare" and step.point.workers == 1 for step in on_cores)
    assert len(shared("gpu", "onnxruntime")) == 4  # it keeps no plans
    assert len(shared("gpu", "tensorrt")) == 8
    assert len(shared("gpu", "tensorrt", words=["engine.largest_batch=8"])) == 4
    assert shared("gpu", "simulated") == ()
    one = tuple(DeviceSlot("gpu", node, number) for node in "ab" for number in (0, 1))
    other, cores = (DeviceSlot("gpu", "c", 0),), (DeviceSlot("cpu", "d", 0),)
    on_kinds = shared("gpu", "tensorrt", one, other, cores)
    assert Counter(step.among for step in on_kinds) == {one: 8, other: 8}


def test_a_preparation_runs_on_the_kind_of_device_that_it_is_for():
    _, points = made("model=alexnet", "workers=1")
    seats = [DeviceSlot("gpu", node, 0) for node in "abc"]
    step = PlannedTrial(points[0], 0, 0, purpose="prepare")
    steps = [replace(step, among=(seat,)) for seat in reversed(seats)]
    agenda = Scheduler(steps, seats, "gpu", 0)
    started = [agenda.next() for _ in range(4)]
    assert [start and start.seats for start in started] == [(seat,) for seat in seats[::-1]] + [
        None
    ]


def test_alone_every_device_measures_a_point_of_one_worker_once_a_trial():
    experiment, points = made("model=alexnet", "workers=[1,2]", "trials=2", "scaling.baseline=solo")
    steps = plan(experiment, points, DEVICES).steps
    alone = [(s.trial, s.device) for s in steps if s.point.workers == 1]
    assert sorted(alone) == [(k, k % 4) for k in range(8)]
    assert [(s.trial, s.device) for s in steps if s.point.workers == 2] == [(0, None), (1, None)]
    assert len({step.number for step in steps}) == len(steps)

import re
import shlex
from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers.plans import DEVICES, expanded, planned
from helpers.tiny_graphs import tiny_conv
from onnx import TensorProto, helper

from raybench.cluster.node_facts import NodeFacts
from raybench.config.compose import read
from raybench.errors import ClusterError, ConfigError, EngineUnavailable, ModelError
from raybench.execute.discovery import check_engines
from raybench.execute.rows import factor_columns
from raybench.execute.trial_names import TrialNames
from raybench.planning.plan import make_plan, order_trials, precisions_of, still_final


def test_every_round_visits_every_point_once_in_its_own_order():
    trials = planned("trials=3").trials
    rounds = [[t.point_index for t in trials if t.trial == trial] for trial in range(3)]
    assert all(sorted(visit) == list(range(6)) for visit in rounds)
    assert len({tuple(visit) for visit in rounds}) > 1
    assert [t.trial for t in trials] == sorted(t.trial for t in trials)


def test_the_same_seed_gives_the_same_order_and_grid_order_keeps_the_files():
    experiment, points = expanded("trials=2")
    plan = order_trials(experiment, points, DEVICES)
    assert plan == order_trials(experiment, points, DEVICES)
    assert plan.trials != order_trials(replace(experiment, seed=5), points, DEVICES).trials
    in_grid_order = order_trials(replace(experiment, order="grid"), points, DEVICES)
    assert [t.point_index for t in in_grid_order.trials] == list(range(6)) * 2


def test_the_content_of_real_inputs_is_part_of_the_id_and_their_place_is_not(tiny, tmp_path):
    def point(inputs):
        words = [f"model={tiny}", "engine=onnxruntime"]
        words += [f"model.inputs={inputs}"] if inputs else []
        request = read(words).resolve(DEVICES)
        return make_plan(request.experiment, DEVICES, "node", "").points[0]

    items = np.zeros((5, 3, 8, 8), np.float32)
    for name, data in (("a", items), ("b", items), ("c", items + 1)):
        np.savez(tmp_path / f"{name}.npz", data=data)
    a, b, c, synthetic = (
        point(tmp_path / f"{n}.npz") if n else point("") for n in ["a", "b", "c", ""]
    )
    assert a.id == b.id
    assert len({a.id, c.id, synthetic.id}) == 3
    assert (a.inputs.name, a.inputs.items, synthetic.inputs) == ("a.npz", 5, None)
    rows = [factor_columns(point)["inputs"] for point in (a, synthetic)]
    assert rows == [f"file a.npz; 5 items; sha256 {a.inputs.sha256[:12]}", "synthetic"]


def test_a_file_with_a_fixed_batch_is_never_reshaped_without_a_word(tmp_path):
    def remarks(graph, batch_size, engine="onnxruntime"):
        path = tmp_path / "fixed.onnx"
        onnx.save(graph, path)
        request = read([f"model={path}", f"engine={engine}", f"batch_size={batch_size}"])
        return make_plan(request.resolve(DEVICES).experiment, DEVICES, "node", "").remarks

    assert remarks(tiny_conv("N"), 8) == remarks(tiny_conv(4), 4) == ()
    (remark,) = remarks(tiny_conv(4), "[4,8]")
    assert "is fixed to batch 4 in its file" in remark
    assert "batch_size=4 runs it unchanged" in remark
    closed = tiny_conv(4, (4, 72))
    assert remarks(closed, 4) == ()
    (remark,) = remarks(closed, "[4,8]")
    assert remark.startswith("Unsupported here: ")
    for batch_size in (8, "max"):
        with pytest.raises(ModelError, match="Use batch_size=4"):
            remarks(closed, batch_size)
    assert remarks(closed, 8, engine="simulated") == ()


def test_points_that_need_more_devices_than_there_are_have_a_reason_and_no_trial():
    plan = planned("workers=[1,8]")
    assert {t.point.workers for t in plan.trials} == {1}
    assert all("needs 8 GPUs and the cluster has 4" in why for why in plan.infeasible.values())


def test_a_plan_without_a_point_that_can_run_is_refused_with_the_devices_there_are():
    experiment, _ = expanded("workers=[5,8]")
    message = "needs 5 GPUs and the cluster has 4.*host-a has 4 GPUs and 2 CPU cores"
    with pytest.raises(ClusterError, match=message):
        make_plan(experiment, DEVICES, "node", "host-a has 4 GPUs and 2 CPU cores")


def test_an_engine_that_a_node_lacks_is_refused_with_its_name_and_only_where_it_must_run():
    experiment, _ = expanded("workers=1")

    def node(name, gpus):
        missing = {"simulated": "Install simulated."}
        return NodeFacts({"hostname": name}, {}, {"gpu": gpus}, [], missing, [])

    check_engines(experiment, [node("a", 0)])
    with pytest.raises(EngineUnavailable, match=r"^Install simulated\.$"):
        check_engines(experiment, [node("a", 2)])
    with pytest.raises(EngineUnavailable, match="On node b: Install simulated"):
        check_engines(experiment, [node("a", 0), node("b", 2)])


def test_what_was_infeasible_is_tried_when_nothing_forbids_it_any_more():
    plan = planned("model=alexnet", "workers=[1,8]", "batch_size=[1,2,4]")
    narrow = {point.batch_size: point.id for point in plan.points if point.workers == 1}
    wide = {point.batch_size: point.id for point in plan.points if point.workers == 8}
    statuses = {
        (narrow[1], 0): "ok",
        (narrow[2], 0): "out_of_memory",
        (narrow[4], 0): "infeasible",  # because of the row above
        (wide[1], 0): "infeasible",  # because devices are missing
    }
    assert still_final(plan, statuses) == statuses
    del statuses[narrow[2], 0]
    assert still_final(plan, statuses) == {(narrow[1], 0): "ok", (wide[1], 0): "infeasible"}


def test_with_the_solo_baseline_every_device_measures_a_point_of_one_worker_in_each_round():
    plan = planned("model=alexnet", "workers=[1,2]", "trials=2", "scaling.baseline=solo")
    trials, names = plan.trials, {TrialNames(plan).name(trial) for trial in plan.trials}
    assert {"alexnet, 1 worker, trial 8 of 8", "alexnet, 2 workers, trial 2 of 2"} <= names
    solo = [(t.trial, t.devices) for t in trials if t.point.workers == 1]
    assert sorted(solo) == [(k, (k % 4,)) for k in range(8)]
    assert [(t.trial, t.devices) for t in trials if t.point.workers == 2] == [(0, ()), (1, ())]


def test_with_the_pairs_baseline_every_pair_of_devices_measures_a_point_of_two_workers():
    words = ("model=alexnet", "workers=[1,2,4]", "trials=2", "scaling.baseline=pairs")
    trials = planned(*words).trials
    every = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    pairs = sorted((t.trial, t.devices) for t in trials if t.point.workers == 2)
    assert pairs == [(k, every[k % 6]) for k in range(12)]
    assert {t.devices for t in trials if t.point.workers == 1} == {(k,) for k in range(4)}
    assert {t.devices for t in trials if t.point.workers == 4} == {()}
    assert len({t.number for t in trials}) == len(trials)


def test_a_grid_of_reduced_and_fp32_models_is_planned_by_the_advice(tmp_path):
    half, whole = str(tmp_path / "half.onnx"), str(tmp_path / "whole.onnx")
    onnx.save(tiny_conv(), whole)
    onnx.save(tiny_conv(), half)
    model = onnx.load(half)
    model.graph.node.insert(1, helper.make_node("Cast", ["y"], ["z"], to=TensorProto.FLOAT16))
    model.graph.node[2].input[0] = "z"
    onnx.save(model, half)
    words = [f"model=[{half},{whole}]", "precision=[fp32,as_is]", "engine=simulated"]
    rules = []
    for _ in range(2):
        with pytest.raises(ModelError) as caught:
            planned_points([*words, *rules])
        (rule,) = shlex.split(re.search(r"'exclude=.*'", str(caught.value))[0])
        before = rules[0].removesuffix("]") + ", " if rules else "exclude=["
        rules = [before + rule.removeprefix("exclude=[")]
    points = planned_points([*words, *rules])
    assert [(p.model, p.precision) for p in points] == [(half, "as_is"), (whole, "fp32")]


def planned_points(words):
    draft = read(words).resolve({"cpu": 2})
    return make_plan(draft.experiment, draft.devices, "node", "").points


def test_a_model_that_nobody_knows_cannot_be_excluded():
    with pytest.raises(
        ConfigError,
        match=r"exclude names model .alexnett., which is unknown\. Did you mean .alexnet.",
    ):
        expanded("model=lenet", "exclude=[{model: alexnett}]")
    _, points = expanded("model=lenet", "exclude=[{model: [alexnet, my/other.onnx]}]")
    assert points  # a rule may be shared with other experiments


def test_precisions_that_exclude_drops_for_a_model_are_not_asked_of_it():
    experiment, _ = expanded("precision=[fp32,int8]")
    drops = replace(experiment, exclude=({"model": ("alexnet",), "precision": ("int8",)},))
    assert precisions_of(drops, "alexnet") == ("fp32",)
    only_one_batch = replace(experiment, exclude=({"precision": ("int8",), "batch_size": (1,)},))
    assert precisions_of(only_one_batch, "alexnet") == ("fp32", "int8")

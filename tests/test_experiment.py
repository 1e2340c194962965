import subprocess
import sys
from dataclasses import replace

import pytest

from raybench.config.compose import read
from raybench.errors import ConfigError
from raybench.planning.expansion import expand, worker_counts
from raybench.planning.plan import make_plan

DEVICES = {"gpu": 4, "cpu": 2}


def points(*words, devices=DEVICES):
    request = read(["experiment=scaling", "engine=simulated", *words]).resolve(devices)
    models = {name for grid in request.experiment.grids for name in grid["model"]}
    return expand(request.experiment, devices, {name: f"zoo:{name}" for name in models})


def test_one_value_an_axis_is_one_point():
    (point,) = points("model=alexnet", "workers=1")
    assert (point.model, point.precision, point.batch_size, point.workers) == (
        "alexnet",
        "int8",
        128,
        1,
    )


def test_axes_multiply_in_the_order_of_the_file():
    cells = [(p.model, p.batch_size) for p in points("batch_size=[1,8]", "workers=1")]
    assert cells == [("alexnet", 1), ("alexnet", 8), ("googlenet", 1), ("googlenet", 8)]


@pytest.mark.parametrize(
    ("devices", "counts"), [(0, ()), (1, (1,)), (2, (1, 2)), (4, (1, 2, 4)), (6, (1, 2, 4, 6))]
)
def test_auto_workers_are_powers_of_two_and_all(devices, counts):
    assert worker_counts(devices) == counts


def test_all_workers_are_as_many_as_there_are_devices():
    counts = [p.workers for p in points("workers=[1,all]", "model=alexnet", "precision=int8")]
    assert counts == [1, 4]
    alone = points("workers=[1,all]", "model=alexnet", "precision=int8", devices={"gpu": 1})
    assert [p.workers for p in alone] == [1]


def accept_points(device):
    request = read(["experiment=accept", "engine=simulated", f"device={device}"]).resolve(
        {"gpu": 8, "cpu": 8}
    )
    plan = make_plan(request.experiment, request.devices, "node", "")
    alone = [p for p in plan.points if p.workers == 1]
    assert {p.workers for p in plan.points} == {1, 8}
    assert len(plan.trials) == len(alone) * (8 + 1) * 5
    return [(p.model, p.precision, p.transfers) for p in alone]


def test_accept_measures_each_part_of_a_gpu_on_every_device_and_on_all():
    assert accept_points("gpu") == [
        ("gemm", "fp32", False),
        ("gemm", "fp16", False),
        ("copy", "fp32", False),
        ("copy", "fp32", True),
        ("resnet50", "fp16", True),
    ]


def test_accept_measures_a_core_without_a_link_and_in_fp32():
    models = ("gemm", "copy", "resnet50")
    assert accept_points("cpu") == [(model, "fp32", True) for model in models]


def test_a_value_named_twice_is_refused():
    with pytest.raises(ConfigError, match="batch_size holds 8 twice"):
        points("batch_size=[8,8]")


def test_exclude_drops_combinations_and_refuses_to_drop_all(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "# Which?\ngrid: {model: [alexnet, googlenet], precision: [fp32, int8], engine: simulated}\n"
        "exclude:\n  - {model: googlenet, precision: fp32}\n"
    )
    request = read([f"experiment={file}"]).resolve(DEVICES)
    kept = expand(request.experiment, DEVICES, {"alexnet": "a", "googlenet": "g"})
    assert [(p.model, p.precision) for p in kept] == [
        ("alexnet", "fp32"), ("alexnet", "int8"), ("googlenet", "int8"),
    ]  # fmt: skip
    words = [f"experiment={file}", "model=googlenet", "precision=fp32"]
    nothing = read(words).resolve(DEVICES).experiment
    with pytest.raises(ConfigError, match="has no points"):
        expand(nothing, DEVICES, {"googlenet": "g"})


def test_grids_are_a_union_without_repeats():
    request = read(["experiment=paper", "engine=simulated"]).resolve(DEVICES)
    expanded = expand(request.experiment, DEVICES, {"alexnet": "a", "googlenet": "g"})
    assert len(expanded) == len({point.id for point in expanded}) == 2 * (2 + 2 + 8)


def test_ids_do_not_change_between_processes():
    code = (
        "from tests.test_experiment import points; "
        "print([p.id for p in points('model=alexnet', 'workers=1')][0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == points("workers=1", "model=alexnet")[0].id


def test_ids_follow_what_bears_on_the_measurement_and_nothing_else():
    point = points("model=alexnet", "workers=1")[0]
    assert replace(point, model="other/name.onnx").id == point.id
    assert replace(point, batch_size=7).id != point.id
    assert replace(point, model_identity="sha256:1").id != point.id
    assert replace(point, measure=replace(point.measure, min_s=3.0)).id != point.id
    valued = replace(point.model_settings, values={"data": 1})
    assert replace(point, model_settings=valued).id != point.id
    assert len(point.id) == 20


MIXED = {"gpu": 6, "cpu": 2, "gpu/A100": 2, "gpu/H100": 4}


def test_auto_is_every_type_of_a_mixed_cluster_and_grows_over_its_own_devices():
    mixed = points("accelerator=auto", "workers=auto", "model=alexnet", devices=MIXED)
    counts = {(point.accelerator, point.workers) for point in mixed}
    assert counts == {("A100", 1), ("A100", 2), ("H100", 1), ("H100", 2), ("H100", 4)}


def test_auto_changes_nothing_where_there_is_one_type():
    (point,) = points(
        "accelerator=auto", "workers=1", "model=alexnet", devices={"gpu": 2, "gpu/A100": 2}
    )
    (same,) = points("workers=1", "model=alexnet", devices={"gpu": 2})
    assert (point.accelerator, point.id) == ("any", same.id)
    (named,) = points("accelerator=A100", "workers=1", "model=alexnet", devices={"gpu": 2})
    assert named.id != same.id


def test_cores_have_no_type_of_accelerator():
    (point,) = points("accelerator=auto", "workers=1", "model=alexnet", "device=cpu", devices=MIXED)
    assert point.accelerator == "any"

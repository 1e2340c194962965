"""`raybench plan` says what has to be built before anything is measured."""

from helpers.plans import planned

from raybench.cli.plan import _to_build

ON_GPU = ("model=alexnet", "engine=tensorrt", "device=gpu", "workers=1", "precision=[fp32,fp16]")


def test_each_engine_plan_is_counted_once():
    assert _to_build(planned(*ON_GPU, "batch_size=[1,8]", "trials=3").trials) == [
        "Needs 4 engine plans; those in the cache are not built again."
    ]


def test_what_a_search_decides_is_no_number():
    (line,) = _to_build(planned(*ON_GPU, "batch_size=[1,max]").trials)
    assert line.startswith("Needs 2 engine plans, and more to find the largest batch")


def test_engines_without_plans_need_none():
    on_cores = ("model=alexnet", "engine=openvino", "workers=1", "batch_size=1")
    assert _to_build(planned(*on_cores).trials) == []

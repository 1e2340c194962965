"""What series are called among each other, and what stands together in a panel."""

from __future__ import annotations

import dataclasses

from helpers.results_folders import GOOD

from raybench.analysis.series import Series
from raybench.report.figures.style import shortened
from raybench.report.labels import MOST, Naming, bundles, panels

PLAIN = Series(**{field.name: GOOD.get(field.name) for field in dataclasses.fields(Series)})


def series(**factors):
    return dataclasses.replace(PLAIN, **factors)


def test_a_label_names_what_differs_and_the_caption_the_rest():
    naming = Naming([series(precision="fp32"), series(precision="int8")])
    assert naming.label(series(precision="int8")) == "int8"
    assert naming.same == "resnet50, NVIDIA H200, tensorrt, batch 8, 2 in flight, with transfers"


def test_versions_are_named_only_where_two_would_be_called_the_same():
    old, new = series(engine_version="10.0"), series(engine_version="11.0")
    assert Naming([old, series(precision="int8", engine_version="11.0")]).varying == ("precision",)
    assert Naming([old, new]).label(new) == "11.0"


def test_a_closed_loop_beside_a_shared_queue_is_named_by_its_load_alone():
    closed, shared = series(load="closed"), series(load="0.8", balancer="shared")
    naming = Naming([closed, shared])
    assert (naming.label(closed), naming.label(shared)) == (
        "closed loop",
        "80 % load, one shared queue",
    )


def test_a_device_that_was_never_learnt_is_no_difference():
    assert Naming([series(), series(device=None)]).varying == ()


def test_panels_hold_no_more_series_than_can_be_distinguished():
    many = [series(precision=p, batch_size=2**k) for p in ("fp32", "int8") for k in range(5)]
    found = panels(many, lambda one: one)
    assert [panel.title for panel in found] == ["resnet50, fp32", "resnet50, int8"]
    assert all(len(panel.members) <= MOST for panel in found)
    assert [one for panel in found for one in panel.members.values()] == many


def test_a_single_bundle_is_named_in_the_title_and_several_under_their_bars():
    some = [series(precision=p) for p in ("fp32", "int8")]
    alone = bundles(some, lambda one: one, lambda _: "batch 8", most=4)
    assert [title for title, _ in alone] == ["resnet50, batch 8"]
    apart = bundles(some, lambda one: one, lambda one: str(one.precision), most=4)
    assert [(title, list(named)) for title, named in apart] == [("resnet50", ["fp32", "int8"])]


def test_bundles_of_a_model_are_spread_evenly_over_its_panels():
    some = [series(batch_size=2**k) for k in range(5)]
    found = bundles(some, lambda one: one, lambda one: f"batch {one.batch_size}", most=4)
    assert [len(named) for _, named in found] == [3, 2]


def test_long_names_keep_both_their_ends():
    assert shortened("resnet50", 8) == "resnet50"
    short = shortened("a_rather_long_name_of_a_network.onnx", 20)
    assert len(short) == 20
    assert short.startswith("a_rather")
    assert short.endswith("ork.onnx")

import re
from functools import partial

import pytest

from raybench.cluster import nodes
from raybench.cluster.nodes import Node
from raybench.cluster.session import Session
from raybench.config.compose import compose
from raybench.errors import ClusterError, EngineUnavailable

A = Node("1", "a", {"gpu": 2, "cpu": 8}, "A100", {"rack": "r1", "pool": "bench"})
B = Node("2", "b", {"gpu": 4, "cpu": 8}, "H100", {"rack": "r2", "pool": "bench"})
HEAD = Node("3", "head", {"gpu": 0, "cpu": 2}, None, {"rack": "r1"})
CLUSTER = Session((A, B, HEAD), None, attached=True)


def facts(node, **told):
    return {"hostname": node.hostname, "offers": dict(node.devices), "devices": {"x": 1}, **told}


def test_devices_are_counted_by_kind_and_by_type():
    assert CLUSTER.devices == {"gpu": 6, "cpu": 18, "gpu/A100": 2, "gpu/H100": 4}


def test_labels_choose_nodes_and_none_is_refused_with_what_there_is():
    assert CLUSTER.selected({}).nodes == (A, B, HEAD)
    assert CLUSTER.selected({"rack": "r1", "pool": "bench"}).nodes == (A,)
    with pytest.raises(ClusterError, match=re.escape("There are: pool=bench, rack=r1, rack=r2.")):
        CLUSTER.selected({"rack": "r3"})


def test_nodes_that_differ_are_told_apart_version_by_version():
    told = [facts(A, openvino_version="1"), facts(B, openvino_version="2", kernel="6")]
    found = nodes.differences([*told, facts(HEAD, openvino_version="1")])
    assert found == ["openvino: 1 on a, head; 2 on b", "kernel: 6 on b; none on a, head"]
    assert nodes.differences(told[:1]) == []


def test_a_node_without_devices_makes_no_difference():
    bare = {**facts(HEAD, openvino_version="3"), "offers": {"gpu": 0, "cpu": 0}}
    told = [bare, facts(A, openvino_version="1")]
    assert nodes.differences(told) == []
    assert nodes.measuring(told) == told[1:]
    assert nodes.measuring(told[:1]) == told[:1]


def auto(*missing, device="auto"):
    """The engine and the kind of device that `engine=auto` means on A, B and the head."""
    told = [
        facts(node, missing={name: f"{name} is missing." for name in names})
        for node, names in zip(CLUSTER.nodes, missing, strict=True)
    ]
    request = compose(
        ["experiment=smoke", f"device={device}"],
        lambda settings: CLUSTER.devices,
        partial(nodes.unavailable, told),
    )
    ((choice),) = request.experiment.engines.values()
    return choice.name, choice.device


def test_engine_auto_is_what_the_nodes_have_and_not_what_the_driver_has():
    # the driver of the tests has OpenVINO and no TensorRT; the head has no GPU to run it on
    assert auto([], [], ["tensorrt"]) == ("tensorrt", "gpu")
    assert auto(["tensorrt"], ["tensorrt"], ["tensorrt"]) == ("openvino", "cpu")
    cores = [["openvino", "tensorrt"]] * 3
    assert auto(*cores) == ("onnxruntime", "cpu")


def test_engine_auto_is_refused_where_nodes_differ_or_have_none():
    words = "tensorrt runs on a, but not on b: tensorrt is missing. Or name an engine"
    with pytest.raises(EngineUnavailable, match=words):
        auto([], ["tensorrt"], [])
    with pytest.raises(EngineUnavailable, match="openvino runs on a, head, but not on b"):
        auto([], ["openvino"], [], device="cpu")
    with pytest.raises(EngineUnavailable, match="On node a: tensorrt is missing"):
        auto(["tensorrt"], ["tensorrt"], [], device="gpu")

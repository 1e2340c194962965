import re
from functools import partial

import pytest

from raybench.cluster import nodes
from raybench.cluster.node_facts import NodeFacts
from raybench.cluster.nodes import Node
from raybench.cluster.session import Session, describe_devices
from raybench.config.compose import read
from raybench.errors import ClusterError, EngineUnavailable

A = Node("1", "a", {"gpu": 2, "cpu": 8}, "A100", {"rack": "r1", "pool": "bench"})
B = Node("2", "b", {"gpu": 4, "cpu": 8}, "H100", {"rack": "r2", "pool": "bench"})
HEAD = Node("3", "head", {"gpu": 0, "cpu": 2}, None, {"rack": "r1"})
CLUSTER = Session((A, B, HEAD), None, attached=True)


def facts(node, missing=(), devices=None, **columns):
    """Facts about a node with these columns of `environment` and without the engines named."""
    return NodeFacts(
        environment={"hostname": node.hostname, **columns},
        products={"x": 1},
        devices=node.devices if devices is None else devices,
        gpus=(),
        missing={name: f"{name} is missing." for name in missing},
        system_issues=(),
        node_id=node.node_id,
    )


def test_devices_are_counted_by_kind_and_by_type():
    assert CLUSTER.devices == {"gpu": 6, "cpu": 18, "gpu/A100": 2, "gpu/H100": 4}


def test_devices_are_described_host_by_host():
    assert describe_devices(CLUSTER, {}) == (
        "a has 2 GPUs of type A100 and 8 CPU cores; b has 4 GPUs of type H100 and 8 CPU cores; "
        "head has 0 GPUs and 2 CPU cores"
    )
    assert describe_devices(None, {"cpu": 3}).endswith(" has 0 GPUs and 3 CPU cores")


def test_labels_select_nodes_and_a_label_of_no_node_is_refused_with_those_that_exist():
    assert CLUSTER.selected({}).nodes == (A, B, HEAD)
    assert CLUSTER.selected({"rack": "r1", "pool": "bench"}).nodes == (A,)
    with pytest.raises(ClusterError, match=re.escape("There are: pool=bench, rack=r1, rack=r2.")):
        CLUSTER.selected({"rack": "r3"})


def test_nodes_that_differ_are_listed_version_by_version():
    a, b = facts(A, openvino_version="1"), facts(B, openvino_version="2", kernel="6")
    head = facts(HEAD, openvino_version="1")
    assert nodes.differences([a, b, head]) == [
        "openvino: 1 on a, head; 2 on b",
        "kernel: 6 on b; none on a, head",
    ]
    assert nodes.differences([a]) == []


def test_a_node_without_devices_makes_no_difference():
    bare = facts(HEAD, devices={"gpu": 0, "cpu": 0}, openvino_version="3")
    a = facts(A, openvino_version="1")
    assert nodes.differences([bare, a]) == []
    assert nodes.with_devices([bare, a]) == [a]
    assert nodes.with_devices([bare]) == [bare]


def test_nodes_with_the_same_devices_and_software_are_of_one_kind():
    a, b, c = facts(A, driver_version="1"), facts(B, driver_version="1"), facts(HEAD)
    kinds = nodes.machine_kinds([a, b, c])
    assert set(kinds) == {"1", "2", "3"}
    assert kinds["1"] == kinds["2"] != kinds["3"]


def engine_and_device(*missing, device="auto"):
    """What `engine=auto` chooses on A, B and the head, each without the engines named."""
    every = [facts(node, names) for node, names in zip(CLUSTER.nodes, missing, strict=True)]
    request = read(["experiment=smoke", f"device={device}"]).resolve(
        CLUSTER.devices,
        partial(nodes.unavailable, every),
    )
    (choice,) = request.experiment.engines.values()
    return choice.name, choice.device


def test_engine_auto_is_what_the_nodes_have_and_not_what_the_driver_has():
    # the driver of the tests has OpenVINO and no TensorRT; the head has no GPU to run it on
    assert engine_and_device([], [], ["tensorrt"]) == ("tensorrt", "gpu")
    assert engine_and_device(*[["tensorrt"]] * 3) == ("tensorrt_rtx", "gpu")
    without_tensorrt = [["tensorrt", "tensorrt_rtx"]] * 3
    assert engine_and_device(*without_tensorrt) == ("openvino", "cpu")
    without_openvino = [["openvino", *without_tensorrt[0]]] * 3
    assert engine_and_device(*without_openvino) == ("onnxruntime", "cpu")


def test_engine_auto_is_refused_where_nodes_differ_or_none_has_it():
    message = "tensorrt runs on a, but not on b: tensorrt is missing. Or name an engine"
    with pytest.raises(EngineUnavailable, match=message):
        engine_and_device([], ["tensorrt"], [])
    with pytest.raises(EngineUnavailable, match="openvino runs on a, head, but not on b"):
        engine_and_device([], ["openvino"], [], device="cpu")
    with pytest.raises(EngineUnavailable, match="On node a: tensorrt is missing"):
        engine_and_device(*[["tensorrt", "tensorrt_rtx"]] * 2, [], device="gpu")


def test_a_node_offers_no_more_cores_than_a_worker_can_be_pinned_to():
    assert A.with_cores(4).devices == {"gpu": 2, "cpu": 4}
    assert A.with_cores(16) == A
    assert A.with_cores(None) is A

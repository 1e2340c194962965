from dataclasses import replace

from raybench.cluster.node_facts import NodeFacts
from raybench.machine.environment import environment_id

CPU_NODE = NodeFacts(
    environment={"hostname": "a", "cpu_model": "X"},
    products={"X": 8},
    devices={"gpu": 0, "cpu": 8},
    gpus=(),
    missing={},
    system_issues=(),
)
GPU_NODE = replace(
    CPU_NODE,
    products={"X": 8, "H200": 2},
    gpus=({"gpu_uuid": "GPU-0", "hostname": "a"}, {"gpu_uuid": "GPU-1", "hostname": "a"}),
    node_id="n1",
)


def test_a_node_without_gpus_is_one_row_and_has_no_id_before_ray_starts():
    assert CPU_NODE.hostname == "a"
    assert CPU_NODE.rows("e1") == [
        {"hostname": "a", "cpu_model": "X", "device": "X", "environment_id": "e1"}
    ]


def test_a_node_with_gpus_is_a_row_for_each_of_them():
    rows = GPU_NODE.rows("e1")
    assert [row["gpu_uuid"] for row in rows] == ["GPU-0", "GPU-1"]
    assert {row["device"] for row in rows} == {"X, H200"}
    assert {row["node_id"] for row in rows} == {"n1"}


def test_products_tell_machines_apart_and_node_ids_do_not():
    ids = [
        environment_id(node.identity)
        for node in (CPU_NODE, GPU_NODE, replace(GPU_NODE, node_id="n2"))
    ]
    assert ids[0] != ids[1] == ids[2]

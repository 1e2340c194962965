"""Several engines on each device, on a real cluster."""

from __future__ import annotations

import pytest

import raybench

pytestmark = pytest.mark.ray


def test_the_instances_of_a_gpu_are_processes_that_share_it(measure, quick):
    code, folder = measure(
        "experiment=packing", "model=lenet", "engine=simulated", "workers=2", "instances=[1,3]",
        "inflight=2", *quick,
    )  # fmt: skip
    assert code == 0
    rows = {row["instances"]: row for row in raybench.load(folder).to_pylist()}
    workers = raybench.load(folder, table="workers").to_pylist()
    packed = [row for row in workers if row["point_id"] == rows[3]["point_id"]]
    assert len({row["pid"] for row in packed}) == 6
    assert [row["instance"] for row in sorted(packed, key=lambda row: row["worker"])] == [
        0,
        1,
        2,
    ] * 2
    assert sorted({row["gpu_index"] for row in packed}) == sorted({r["gpu_index"] for r in packed})
    assert len({row["gpu_index"] for row in packed}) == 2
    assert rows[3]["workers"] == 2
    assert 0.8 < rows[3]["instance_min_max_ratio"] <= 1
    assert rows[3]["items_per_s_per_worker"] == pytest.approx(rows[3]["items_per_s"] / 2)
    # they take turns on the simulated device: three are no faster than one
    assert rows[3]["items_per_s"] == pytest.approx(rows[1]["items_per_s"], rel=0.2)


def test_the_instances_of_a_core_share_that_core_and_memory_ends_in_a_row(measure, quick):
    code, folder = measure(
        "experiment=packing", "model=lenet", "engine=openvino", "workers=1", "instances=2",
        "inflight=1", *quick,
    )  # fmt: skip
    assert code == 0
    one, two = raybench.load(folder, table="workers").to_pylist()
    assert one["cpu_affinity"] == two["cpu_affinity"]
    assert one["pid"] != two["pid"]
    code, folder = measure(
        "experiment=packing", "model=lenet", "engine=simulated", "engine.item_mib=400",
        "engine.memory_gib=1", "workers=1", "instances=[2,3]", "inflight=1", "batch_size=1", *quick,
    )  # fmt: skip
    rows = raybench.load(folder).to_pylist()
    statuses = {row["instances"]: row["status"] for row in rows if row["engine"] == "simulated"}
    assert statuses == {2: "ok", 3: "out_of_memory"}

"""Two workers that serve one queue, on a real cluster."""

from __future__ import annotations

import pytest

import raybench

pytestmark = pytest.mark.ray


def test_two_workers_serve_every_item_of_one_queue_once(measure, quick):
    code, folder = measure(
        "experiment=scaling", "model=lenet", "engine=simulated", "engine.profile=custom",
        "engine.overhead_ms=2", "engine.item_us=0", "engine.service=exponential", "precision=fp32",
        "workers=2", "batch_size=1", "inflight=1", "load=[constant(400),poisson(2000)]",
        "measure.balancer=shared", *quick,
    )  # fmt: skip
    assert code == 0
    rows = {row["load"]: row for row in raybench.load(folder).to_pylist()}
    workers = raybench.load(folder, table="workers").to_pylist()
    borne, over = rows["constant(400)"], rows["poisson(2000)"]
    assert {row["balancer"] for row in rows.values()} == {"shared"}
    assert borne["arrived_items_per_s"] == pytest.approx(400, rel=0.01)
    served = [row["latency_n"] for row in workers if row["point_id"] == borne["point_id"]]
    assert sum(served) == borne["latency_n"]
    assert borne["latency_n"] == pytest.approx(400 * borne["window_s"], abs=2)
    assert min(served) > 0.3 * sum(served)  # the one that is idle for longest is next
    assert "overloaded" in over["flags"]
    assert over["latency_p50_ms"] is None

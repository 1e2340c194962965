"""The workers behind the trials: which was slowest, and what each device does alone."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.trial_tables import table, trials

from raybench.analysis.scaling import scaling
from raybench.results.store import build


def workers(point, rates, trial=0, run="01A", **row):
    """Rows of `workers` for one trial; worker k has GPU k by default."""
    return [
        {"run_id": run, "point_id": point, "trial": trial, "environment_id": "e1", "worker": k,
         "hostname": "n1", "gpu_index": k, "gpu_uuid": f"GPU-{k}", "items_per_s": rate, **row}
        for k, rate in enumerate(rates)
    ]  # fmt: skip


def entries(rows, worker_rows):
    return list(scaling(table(*rows), build("workers", worker_rows, {})).entries)


def test_the_worker_that_was_slowest_in_most_trials_is_named():
    rows = trials([300.0, 300.0, 300.0], workers=3, point_id="p")
    worker_rows = [
        *workers("p", [110.0, 100.0, 90.0], 0),
        *workers("p", [110.0, 100.0, 90.0], 1),
        *workers("p", [80.0, 110.0, 110.0], 2),
    ]
    (only,) = entries(rows, worker_rows)
    assert only.slowest_worker == "worker 2 on n1, GPU 2"
    assert only.slowest_share == pytest.approx(0.9)


def solo(rates, sd=0.0, n=1, seed=0):
    """Trials of one worker, a point a device, and their rows of workers."""
    rng = np.random.default_rng(seed)
    rows, worker_rows = [], []
    for gpu, rate in enumerate(rates):
        for trial in range(n):
            noisy = rate * float(np.exp(sd * rng.standard_normal()))
            run = f"01S{gpu}"
            rows.append(
                {"run_id": run, "point_id": f"s{gpu}", "trial": trial, "items_per_s": noisy}
            )
            own = workers(f"s{gpu}", [noisy], trial, run)
            own[0] |= {"gpu_uuid": f"GPU-{gpu}", "gpu_index": gpu}
            worker_rows += own
    return rows, worker_rows


def test_speedup_over_the_same_devices_each_alone():
    rows, worker_rows = solo([100.0, 80.0])
    rows += trials([171.0], workers=2, point_id="p")
    one, two = entries(rows, [*worker_rows, *workers("p", [95.0, 76.0])])
    assert (two.solo_devices, two.solo_items_per_s) == (2, 180)
    assert two.solo_speedup.value == pytest.approx(2 * 171 / 180)
    assert two.interference_loss.value == pytest.approx(0.05)
    assert two.interference_loss.lo is None  # single trials tell no interval
    assert one.solo_speedup.value is None


def test_the_loss_has_an_interval_from_two_trials_of_everything_on():
    rows, worker_rows = solo([100.0, 80.0], 0.005, 3)
    rng = np.random.default_rng(9)
    together = (171 * np.exp(0.005 * rng.standard_normal(3))).tolist()
    rows += trials(together, workers=2, point_id="p")
    worker_rows += [row for k in range(3) for row in workers("p", [95.0, 76.0], k)]
    two = entries(rows, worker_rows)[-1]
    assert two.interference_loss.lo < 0.05 < two.interference_loss.hi
    assert two.solo_speedup.lo < two.solo_speedup.value < two.solo_speedup.hi


def test_a_device_that_was_never_alone_leaves_the_loss_unknown_and_says_so():
    rows, worker_rows = solo([100.0])
    rows += trials([171.0], workers=2, point_id="p")
    made = scaling(table(*rows), build("workers", [*worker_rows, *workers("p", [95.0, 76.0])], {}))
    two = made.entries[-1]
    assert (two.solo_devices, two.solo_items_per_s, two.interference_loss.value) == (1, None, None)
    assert any("not every device was measured alone" in reason for reason in made.curves[0].missing)


def test_without_workers_there_is_no_worker_result():
    made = scaling(table(*trials([1.0]), *trials([2.0], workers=2)))
    assert made.entries[-1].slowest_worker is None
    assert any("no workers table was given" in reason for reason in made.curves[0].missing)


def test_cores_are_known_by_host_and_affinity():
    core = {"gpu_uuid": None, "gpu_index": None}
    rows, worker_rows = [], []
    for k in range(2):
        rows.append({"run_id": f"01S{k}", "point_id": f"s{k}", "items_per_s": 100.0})
        worker_rows += workers(f"s{k}", [100.0], run=f"01S{k}", cpu_affinity=str(k), **core)
    rows += trials([190.0], workers=2, point_id="p")
    pair = workers("p", [95.0, 95.0], **core)
    for k in range(2):
        pair[k]["cpu_affinity"] = str(k)
    assert entries(rows, [*worker_rows, *pair])[-1].interference_loss.value == pytest.approx(0.05)

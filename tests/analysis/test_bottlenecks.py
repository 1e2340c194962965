"""What holds a point back, from its flags and its telemetry."""

from __future__ import annotations

import pytest
from helpers.trial_tables import table, trials

from raybench.analysis.baselines import Slowest
from raybench.analysis.bottlenecks import bounds
from raybench.analysis.cells import cells


def found(slowest=None, base=None, **row):
    (cell,) = cells(table(*trials([100.0], workers=4, **row)))
    return {bound.what: bound.evidence for bound in bounds(cell, base, slowest)}


def test_without_measurements_there_is_no_bottleneck():
    assert found() == {}
    assert found(h2d_ms_median=1.0, d2h_ms_median=0.1, compute_ms_median=2.0) == {}


def test_the_host_with_its_figures():
    bottlenecks = found(flags=["host_bound"], host_idle_frac=0.24)
    assert bottlenecks == {"host": "The device had nothing to do for 24 % of the time."}
    bottlenecks = found(flags=["enqueue_bound"], enqueue_ms_median=0.9, compute_ms_median=0.5)
    assert bottlenecks == {"host": "Submitting a batch took 0.9 ms, computing it 0.5 ms."}
    assert found(flags=["host_bound"]) == {"host": "The device waited for the host."}


@pytest.mark.parametrize(("h2d", "d2h", "way"), [(3.0, 0.1, "in"), (0.1, 3.0, "out")])
def test_copies_bind_when_the_longer_way_takes_longer_than_the_compute(h2d, d2h, way):
    bottlenecks = found(h2d_ms_median=h2d, d2h_ms_median=d2h, compute_ms_median=2.0)
    assert bottlenecks == {"copies": f"Copying a batch {way} took 3 ms, computing it 2 ms."}


def test_idle_time_that_copies_explain_is_not_the_hosts():
    copies = {"h2d_ms_median": 1.73, "compute_ms_median": 1.1, "host_idle_frac": 0.24}
    assert list(found(flags=["host_bound", "copy_bound"], **copies)) == ["copies"]
    flags = ["enqueue_bound", "copy_bound"]
    assert list(found(flags=flags, enqueue_ms_median=1.0, **copies)) == ["copies"]
    assert list(found(flags=flags, enqueue_ms_median=2.0, **copies)) == ["host", "copies"]
    within = {"h2d_ms_median": 0.9, "compute_ms_median": 1.0}
    assert not found(flags=["enqueue_bound"], enqueue_ms_median=0.85, **within)


def test_idle_time_that_missing_images_do_not_explain_is_the_hosts_as_well():
    flags = ["host_bound", "underfed"]
    assert list(found(flags=flags, input_wait_frac=0.56, host_idle_frac=0.6)) == ["decoding"]
    assert list(found(flags=flags, input_wait_frac=0.06, host_idle_frac=0.6)) == [
        "decoding",
        "host",
    ]


def test_throttling_is_judged_against_the_clock_of_the_base():
    (base,) = cells(table(*trials([30.0], sm_clock_mhz_mean=1980.0)))
    bottlenecks = found(
        base=base,
        flags=["throttled_power"],
        throttle_power_frac=0.4,
        sm_clock_mhz_mean=1485.0,
    )
    assert bottlenecks == {
        "power": "The power limit held the clock in 40 % of samples; "
        "the clock was 1485 MHz, 75 % of that of 1."
    }
    assert list(found(flags=["throttled_thermal", "throttled_hw"])) == ["heat", "hardware"]


def test_a_slow_device_is_named():
    bottlenecks = found(Slowest("worker 3 on n1", 0.9), flags=["imbalance"], imbalance=0.12)
    assert bottlenecks == {
        "slow_device": "The fastest worker beat the slowest by 12.0 %; "
        "the slowest was worker 3 on n1 at 90.0 % of the mean."
    }


def test_neighbours_are_distinguished_from_the_machine():
    bottlenecks = found(flags=["foreign_load", "steal"])
    assert bottlenecks == {
        "neighbours": "Others used the workers' own cores; "
        "other virtual machines took the workers' cores."
    }

"""The arrivals of a trial, and the capacity that a share is of."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
from helpers.plans import planned

from raybench.cluster.nodes import Node
from raybench.errors import ClusterError, EngineFailure, Refused
from raybench.execute.capacities import Capacities
from raybench.execute.discovery import check_queue
from raybench.execute.trial import TrialRunner

WORDS = ("model=alexnet", "workers=2", "batch_size=8", "trials=2")


def runner(load, capacity=None, trial=0, words=()):
    trials = [t for t in planned(*WORDS, f"load={load}", *words).trials if t.point.load == load]
    attempt = SimpleNamespace(planned=trials[trial])
    request = SimpleNamespace(experiment=SimpleNamespace(seed=7))
    return TrialRunner(request, None, None, attempt, capacity)


def test_a_share_is_offered_of_the_rate_of_its_closed_loop():
    arrivals = runner("0.5", 3000.0)._arrivals()
    assert (arrivals.kind, arrivals.items_per_s, arrivals.workers) == ("poisson", 1500.0, 2)
    assert runner("constant(10)")._arrivals().items_per_s == 10.0
    assert runner("closed")._arrivals() is None


def test_engines_on_one_device_share_its_rate():
    trials = planned(*WORDS, "instances=3", "load=poisson(60)").trials
    request = SimpleNamespace(experiment=SimpleNamespace(seed=7))
    attempt = SimpleNamespace(planned=trials[0])
    arrivals = TrialRunner(request, None, None, attempt)._arrivals()
    assert [arrivals.of_worker(rank).items_per_s for rank in range(6)] == [10.0] * 6


def test_the_workers_of_a_shared_queue_draw_the_same_arrivals_of_the_whole_rate():
    shared = runner("poisson(10)", words=("measure.balancer=shared",))._arrivals()
    first, second = (shared.of_worker(rank, "queue") for rank in range(2))
    assert first == second
    assert (first.items_per_s, first.seed, first.tickets) == (10.0, (7, 0, 0), "queue")
    assert runner("poisson(10)")._arrivals().of_worker(0).tickets == ""


@pytest.mark.parametrize(
    ("balancer", "workers", "gpus", "refused"),
    [
        ("shared", 2, (4, 4), True),
        ("shared", 2, (4, 0), False),
        ("shared", 1, (4, 4), False),
        ("split", 2, (4, 4), False),
    ],
)
def test_a_shared_queue_is_refused_where_devices_are_on_several_nodes(
    balancer, workers, gpus, refused
):
    nodes = [Node(f"id-{k}", f"host-{k}", {"gpu": count}) for k, count in enumerate(gpus)]
    words = ("load=poisson(10)", f"workers={workers}", f"measure.balancer={balancer}")
    points = planned("model=alexnet", *words).points
    said = r"on 2: host-0, host-1. Choose one with cluster.select, or use measure.balancer=split"
    with pytest.raises(ClusterError, match=said) if refused else contextlib.nullcontext():
        check_queue(points, SimpleNamespace(nodes=nodes))
    check_queue(points, None)


def test_trials_differ_in_their_arrivals_and_are_seeded():
    seeds = [runner("poisson(10)", trial=trial)._arrivals().seed for trial in (0, 1)]
    assert seeds == [(7, 0), (7, 1)]


def test_a_share_of_a_rate_that_is_unknown_is_refused_and_not_tried_again():
    with pytest.raises(Refused, match=r"load=0.5 is a share of a closed-loop rate"):
        runner("0.5")._arrivals()


def test_the_capacity_of_all_trials_is_the_first_one_measured_here_or_in_the_store():
    trials = planned(*WORDS, "load=[closed,0.5]").trials
    closed, share = (next(t for t in trials if t.point.load == load) for load in ("closed", "0.5"))
    stored = Capacities({(closed.point.id, 0): 100.0})
    assert stored.of(share) == 100.0
    measured = Capacities({})
    assert measured.of(share) is None

    def finished(trial, error, rate):
        tables = SimpleNamespace(trial={"items_per_s": rate})
        attempt = SimpleNamespace(planned=trial)
        return SimpleNamespace(attempt=attempt, tables=tables, error=error)

    first = next(t for t in trials if t.point.load == "closed" and t.trial == 0)
    measured.note(finished(first, EngineFailure("broken"), 70.0))
    assert measured.of(share) is None
    measured.note(finished(first, None, 80.0))
    assert [measured.of(t) for t in trials if t.point.load == "0.5"] == [80.0, 80.0]

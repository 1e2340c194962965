"""Two runs on one results folder, without Ray: what the second measures, hears and says at its end."""

from dataclasses import replace

import pytest
from helpers.last_words import last_of

from raybench.config.compose import read
from raybench.errors import ResultsError
from raybench.execute.discovery import discover
from raybench.execute.finished_run import close_run
from raybench.execute.run import _trials_of, open_run, start_run
from raybench.execute.stop_request import StopRequest
from raybench.planning.rate_searches import WHOLE
from raybench.results.store import Store

WORDS = (
    "experiment=smoke",
    "engine=simulated",
    "model=alexnet",
    "preset=quick",
    "trials=2",
    "cluster.cpus=1",
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def opened(folder):
    """Open a run of two trials on the folder."""
    draft = read(last_of([*WORDS, f"results.dir={folder}"]))
    with discover(draft.cluster) as cluster:
        request = draft.resolve(cluster.devices, cluster.unavailable)
        yield lambda: open_run(request, cluster)


def key_of(planned):
    return planned.key


def written(context, key, status="skipped", run_id=None):
    row = {"environment_id": context.environment_id, "status": status}
    context.store.start_run({}, run_id).write_point(*key, trials=row)


@pytest.fixture
def other(folder, opened):
    """A run that measures the first of the two trials, as the second finds it."""
    with opened() as context:
        first, second = sorted(_trials_of(context.request, context.plan))
        environment = context.environment_id
    with Store(folder).claim(environment, {first, second}) as lease:
        lease.keep({first})
        yield lease, first, second


def test_the_second_run_takes_what_the_first_leaves(opened, other):
    lease, first, second = other
    with opened() as context:
        assert context.lease.lease.trials == {second}
        assert [planned.key for planned in context.missing] == [second]
        assert context.elsewhere == {first: lease.lease}


def test_a_trial_that_has_its_row_is_kept_from_nobody(opened, other):
    _, first, second = other
    with opened() as context:
        written(context, second, "unsupported")
        written(context, first, "unsupported")
    with opened() as context:
        assert context.elsewhere == {}
        assert not context.lease.lease.trials


def test_a_run_that_lost_its_trials_stops(opened):
    stop = StopRequest()
    with opened() as context:
        context = replace(context, finals=dict.fromkeys(map(key_of, context.plan.trials), "ok"))
        with start_run(context, [], stop):
            context.lease.on_lost(ResultsError("Taken."))
            with pytest.raises(ResultsError, match="Taken"):
                stop.check()


def test_what_the_other_run_has_not_measured_yet_is_said_and_is_no_success(opened, other):
    lease, _, second = other
    with opened() as context:
        written(context, second, "unsupported")
        run = close_run(context, failed=False)
    assert run.failed
    (sentence,) = run.elsewhere
    assert f"1 trial is still measured by {lease.lease}" in sentence


@pytest.mark.parametrize(("status", "failed"), [("failed", True), ("unsupported", False)])
def test_a_failure_of_the_other_run_is_one_of_this_run(opened, other, status, failed):
    lease, first, _ = other
    with opened() as context:
        written(context, first, status, lease.lease.run_id)
        run = close_run(context, failed=False)
    assert run.failed is failed
    assert run.elsewhere == ()


# ---------------------------------------------------------------- searches for the highest rate

OK_ROW = {"items_per_s": 1000.0, "verdict": "unverified", "flags": []}


@pytest.fixture
def searching(folder):
    """Open a run of a search on the folder."""
    words = [*WORDS, "experiment=slo", "slo_ms=15", "workers=1", f"results.dir={folder}"]
    draft = read(last_of(words))
    with discover(draft.cluster) as cluster:
        request = draft.resolve(cluster.devices, cluster.unavailable)
        yield lambda: open_run(request, cluster)


def ok(context, key, **columns):
    row = {"environment_id": context.environment_id, "status": "ok", **OK_ROW, **columns}
    context.store.start_run({}).write_point(*key, trials=row)


def test_a_search_is_left_to_the_run_that_makes_it(searching):
    with searching() as first:
        (base,) = first.plan.points
        assert (base.id, WHOLE) in first.lease.lease.trials
        for trial in (0, 1):
            ok(first, (base.id, trial))
        with (
            pytest.raises(ResultsError, match=r"measured by run .*process \d+"),
            searching(),
        ):
            pass
    with searching() as second:
        assert [trial.point.load for trial in second.missing] == ["poisson(775)"]
        assert second.lease.lease.trials == {(base.id, WHOLE)}


def test_a_search_of_another_run_is_said_until_it_has_ended(searching, folder):
    with searching() as context:
        (base,) = context.plan.points
        environment = context.environment_id
    with Store(folder).claim(environment, {(base.id, WHOLE)}) as lease, searching() as context:
        for trial in (0, 1):
            ok(context, (base.id, trial))
        assert context.searches.asked() == []
        run = close_run(context, failed=False)
        assert run.failed
        (sentence,) = run.elsewhere
        assert sentence.startswith(f"1 search for the highest rate is left to {lease.lease}; ")
    with searching() as context:
        while missing := context.searches.missing():
            ok(context, missing[0].key, slo_met=False, slo_violation_frac=0.5)
            context.searches.record(missing[0], {"status": "ok", "slo_met": False, "flags": []})
        assert context.searches.unfinished() == set()
    with Store(folder).claim(environment, {(base.id, WHOLE)}), searching() as context:
        assert context.elsewhere == {}
        assert close_run(context, failed=False).elsewhere == ()

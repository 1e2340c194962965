import pytest
from helpers.plans import planned

from raybench.errors import OutOfMemory
from raybench.planning.batch_search import LARGEST_BATCH, BatchSearch, BatchSearches


def search(limit):
    """Batches that a search tries when `limit` is the largest that fits."""
    searching, tried = BatchSearch(), []
    while not searching.complete:
        tried.append(searching.candidate)
        if tried[-1] <= limit:
            searching.fits = tried[-1]
        else:
            searching.reject(tried[-1], "full")
    return tried, searching.candidate


@pytest.mark.parametrize("limit", [1, 2, 11, 64, LARGEST_BATCH])
def test_the_search_ends_at_the_largest_batch_that_fits(limit):
    tried, answer = search(limit)
    assert answer == limit
    assert len(tried) == len(set(tried)) <= 2 * limit.bit_length() + 1


def test_a_batch_that_fails_when_measured_is_searched_again_below():
    searching = BatchSearch(fits=11, too_large=12, reason="full")
    searching.reopen(11, "fragmented")
    assert not searching.complete
    assert searching.candidate == 8
    assert searching.note == "batch_size=11 does not fit: fragmented"


def test_limits_are_kept_for_each_series_and_bound_its_search():
    plan = planned("model=alexnet", "workers=[1,2]", "batch_size=[4,8,max]")
    by_batch = {
        (t.point.workers, "max" if t.point.largest else t.point.batch_size): t for t in plan.trials
    }
    searches = BatchSearches([by_batch[1, 8].point])
    searches.record_limit(by_batch[1, 4].point)
    searches.record_limit(by_batch[1, 8].point)
    assert searches.limit(by_batch[1, 8].point) == 4
    assert searches.limit(by_batch[2, 8].point) is None
    assert searches.resolve(by_batch[1, 8]) is by_batch[1, 8]
    first = {workers: searches.resolve(by_batch[workers, "max"]) for workers in (1, 2)}
    assert [first[workers].point.batch_size for workers in (1, 2)] == [2, 1]
    assert first[1].purpose == "fit"


def test_while_a_probe_runs_the_trial_waits():
    (waiting,) = planned("model=alexnet", "workers=1", "batch_size=max", "trials=1").trials
    searches = BatchSearches()
    probe = searches.resolve(waiting)
    searches.start_probe(waiting.point)
    assert searches.resolve(waiting) is None
    searches.end_probe(waiting.point, probe.point, OutOfMemory("load", None, "full"))
    assert searches.note(waiting.point).startswith("batch_size=1 does not fit")

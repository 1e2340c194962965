import pytest
from helpers.plans import expanded

from raybench.planning.batch_search import LARGEST_BATCH, BatchSearch, MemoryLimits


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
    _, points = expanded("model=alexnet", "workers=[1,2]", "batch_size=[4,8]")
    one = {point.batch_size: point for point in points if point.workers == 1}
    two = {point.batch_size: point for point in points if point.workers == 2}
    limits = MemoryLimits([one[8]])
    limits.record(one[4])
    limits.record(one[8])
    assert limits.limit(one[8]) == 4
    assert limits.limit(two[8]) is None
    assert limits.search(one[8]).candidate == 2
    assert limits.search(two[8]).candidate == 1

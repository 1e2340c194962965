"""The best points under constraints, and the front of throughput against latency."""

from __future__ import annotations

import pytest
from helpers.trial_tables import table, trials

from raybench.analysis.best import best, parse_best
from raybench.analysis.conditions import parse_conditions
from raybench.analysis.pareto import fronts
from raybench.errors import ConfigError


def rows():
    """Return four batches: throughput, latency and energy all grow with the batch."""
    return table(
        *trials([100, 102], batch_size=1, latency_p99_ms=2.0, items_per_j=1.0),
        *trials([300, 301], batch_size=4, latency_p99_ms=8.0, items_per_j=2.0),
        {"trial": 0, "items_per_s": 500, "batch_size": 8, "latency_p99_ms": 9.0, "items_per_j": 3.0},
        {"trial": 1, "items_per_s": 510, "batch_size": 8, "latency_p99_ms": 11.0, "items_per_j": 3.0},
        *trials([900, 905], batch_size=32, latency_p99_ms=40.0),
    )  # fmt: skip


def batches(answer):
    return [point.series.batch_size for point in answer.points]


def test_a_point_meets_a_condition_only_if_every_trial_does():
    assert batches(best(rows(), "items_per_j", parse_conditions("latency_p99_ms<10"))) == [4, 1]
    assert batches(best(rows(), "items_per_j", parse_conditions("latency_p99_ms <= 11"))) == [
        8,
        4,
        1,
    ]
    both = parse_conditions("latency_p99_ms<50 and batch_size<=4")
    assert batches(best(rows(), "items_per_s", both)) == [4, 1]


def test_lower_is_better_where_it_is():
    assert batches(best(rows(), "latency_p99_ms"))[0] == 1


def test_what_is_unknown_is_left_out_and_counted():
    answer = best(rows(), "items_per_j")
    assert batches(answer) == [8, 4, 1]
    assert any("1 point of 4 has no items_per_j" in sentence for sentence in answer.missing)
    answer = best(rows(), "items_per_s", parse_conditions("items_per_j>0"))
    assert 32 not in batches(answer)
    assert any("no items_per_j in some trial" in sentence for sentence in answer.missing)
    answer = best(rows(), "items_per_s", parse_conditions("latency_p99_ms<1"))
    assert not answer.points
    assert any("No point of googlenet on Tesla P40 meets" in text for text in answer.missing)


def test_each_model_has_a_best_of_its_own():
    both = table({"items_per_s": 10.0}, {"items_per_s": 20.0, "model": "alexnet"})
    ranks = {(p.series.model, p.rank) for p in best(both, "items_per_s").points}
    assert ranks == {("googlenet", 1), ("alexnet", 1)}


def test_points_whose_intervals_meet_are_even():
    close = table(*trials([100, 110], batch_size=1), *trials([101, 111], batch_size=2))
    assert all(point.even for point in best(close, "items_per_s").points)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("latency_p99<10", "Unknown column 'latency_p99'"),
        ("latency_p99_ms", "not understood"),
        ("latency_p99_ms<ten", "not understood"),
        ("latency_p99_ms<nan", "not understood"),
        ("model=alexnet", "not understood"),
        ("model=3", "holds no numbers"),
        ("latency_p99_ms<10 and", "not understood"),
        ("", "not understood"),
    ],
)
def test_a_condition_that_is_none_is_refused(text, part):
    with pytest.raises(ConfigError, match=part):
        parse_conditions(text)


def test_a_column_without_a_best_is_refused():
    assert parse_best({}) is None
    assert parse_best({"best": "items_per_joule"}) == ("items_per_j", ())
    for name in ("latency", "model", "batch_size"):
        with pytest.raises(ConfigError):
            parse_best({"best": name})


def test_the_front_holds_what_no_other_beats():
    (front,) = fronts(
        table(
            {"items_per_s": 100.0, "batch_size": 1, "latency_p99_ms": 2.0},
            {"items_per_s": 90.0, "batch_size": 2, "latency_p99_ms": 3.0},
            {"items_per_s": 300.0, "batch_size": 4, "latency_p99_ms": 8.0},
            {"items_per_s": 300.0, "batch_size": 8, "latency_p99_ms": 9.0},
        )
    )
    assert front.percentile == "latency_p99_ms"
    assert [choice.series.batch_size for choice in front.best] == [1, 4]
    assert len(front.choices) == 4


def test_a_front_takes_a_percentile_that_all_its_points_have():
    (front,) = fronts(
        table(
            {"items_per_s": 100.0, "batch_size": 1, "latency_p99_ms": 2.0, "latency_p50_ms": 1.0},
            {"items_per_s": 90.0, "batch_size": 2, "latency_p50_ms": 2.0},
            {"items_per_s": 300.0, "batch_size": 4, "latency_p50_ms": 3.0},
        )
    )
    assert front.percentile == "latency_p50_ms"


def test_open_loop_rows_are_no_choice():
    rates = [
        {
            "items_per_s": 10.0 * k,
            "batch_size": k,
            "latency_p50_ms": float(k),
            "load": "poisson(100)",
        }
        for k in range(1, 5)
    ]
    assert fronts(table(*rates)) == ()

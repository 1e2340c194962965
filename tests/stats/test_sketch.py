"""The sketch of quantiles against the values that it has counted."""

import numpy as np
import pytest

from raybench.stats.sketch import RELATIVE_ERROR, QuantileSketch


def of(values):
    sketch = QuantileSketch()
    sketch.add(np.array(values, np.float64))
    return sketch


@pytest.mark.parametrize("p", [0.0, 0.5, 0.9, 0.99, 0.999, 1.0])
def test_a_quantile_is_within_half_a_percent_of_a_value_of_its_rank(p):
    values = np.random.default_rng(1).lognormal(1.0, 1.5, 20_000)
    exact = np.sort(values)[min(int(p * len(values)), len(values) - 1)]
    assert of(values).quantile(p) == pytest.approx(exact, rel=RELATIVE_ERROR + 1e-12)


def test_two_sketches_add_up_to_that_of_all_values():
    values = np.random.default_rng(2).lognormal(0.0, 2.0, 5_000)
    parts = QuantileSketch()
    for part in (values[:10], values[10:4_000], values[4_000:]):
        parts.merge(of(part))
    whole = of(values)
    assert parts.buckets() == whole.buckets()
    assert (parts.n, parts.largest) == (whole.n, whole.largest)
    assert parts.mean == pytest.approx(values.mean())
    assert parts.deviation == pytest.approx(values.std(ddof=1))


def test_a_sketch_of_a_billion_values_is_as_small_as_that_of_a_thousand():
    sketch = of(np.linspace(1.0, 10.0, 1_000))
    buckets = len(sketch.buckets()[1])
    for _ in range(20):
        sketch.merge(sketch)  # twice as many
    assert sketch.n > 10**9
    assert len(sketch.buckets()[1]) == buckets < 240


def test_a_time_of_zero_counts_as_zero_and_no_value_gives_no_quantile():
    assert of([0.0, 0.0, 0.0, 1.0]).quantile(0.5) == 0.0
    empty = QuantileSketch()
    assert (empty.quantile(0.5), empty.mean, empty.deviation, empty.buckets()) == (
        None, None, None, ([], []),
    )  # fmt: skip

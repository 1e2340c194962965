"""The interval of where a line through scattered points crosses zero covers it."""

from __future__ import annotations

import numpy as np
import pytest

from raybench.stats.crossing import rising_crossing


def test_points_on_a_line_give_its_zero_and_no_width():
    x = np.array([1.0, 2.0, 3.0, 5.0])
    assert tuple(vars(rising_crossing(x, 2 * x - 5, 0.95)).values()) == pytest.approx(
        (2.5, 2.5, 2.5)
    )


def test_the_interval_covers_as_often_as_it_claims():
    rng, x = np.random.default_rng(0), np.array([-1.0, -0.5, 0.5, 1.0, 1.0, 1.0])
    spans = [rising_crossing(x, x - 0.3 + rng.normal(0, 0.3, 6), 0.95) for _ in range(2000)]
    covers = [span is None or span.lo <= 0.3 <= span.hi for span in spans]
    assert 0.94 <= np.mean(covers) <= 0.97


@pytest.mark.parametrize(
    ("x", "y"),
    [([1, 2, 3], [1, 2, 3]), ([2, 2, 2, 2], [1, 2, 3, 4]), ([1, 2, 3, 4], [4, 3, 2, 1]),
     ([1, 2, 1, 2], [0, 9, 8, 1])],
)  # fmt: skip
def test_points_that_do_not_determine_it_give_none(x, y):
    assert rising_crossing(np.array(x, float), np.array(y, float), 0.95) is None

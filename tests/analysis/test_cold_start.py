"""Cold starts by the number of workers, and what is printed of them."""

from helpers.trial_tables import table

from raybench.analysis.cold_start import cold_starts
from raybench.report.terminal.cold_start import of_cold_starts


def start(workers, ready, slowest, **row):
    return {
        "workers": workers, "point_id": f"p{workers}", "load_late_ms": 0.01, "page_cache": "cold",
        "ready_s_p50": ready, "ready_s_max": slowest, "build_s_p50": 0.5, "build_s_max": 0.6,
        "load_s_p50": 0.1, "load_s_max": 0.2, "first_infer_ms_p50": 5.0, "first_infer_ms_max": 9.0,
        **row,
    }  # fmt: skip


def test_each_number_of_workers_has_its_median_and_the_largest_of_all_trials():
    rows = table(*(start(8, 1.0 + k, 2.0 + k, trial=k) for k in range(3)), start(1, 0.7, 0.7))
    one, eight = cold_starts(rows)
    assert (one.workers, eight.workers, eight.trials) == (1, 8, 3)
    assert (eight.times["ready_s_p50"], eight.times["ready_s_max"]) == (2.0, 4.0)


def test_lines_name_the_page_cache_and_say_unknown_where_it_is():
    rows = table(
        start(1, 0.7, 0.7), start(2, 1.4, 1.5), start(1, 0.6, 0.6, page_cache="warm", trial=1),
        start(1, 0.5, 0.5, page_cache=None, trial=2),
    )  # fmt: skip
    lines = of_cold_starts(cold_starts(rows))
    assert [line for line in lines if not line.startswith("  ")] == [
        "googlenet, page cache unknown, first batch done after:",
        "googlenet, page cache cold, first batch done after:",
        "googlenet, page cache warm, first batch done after:",
    ]
    assert (
        "  2 workers: 1.4 s (at most 1.5): build 0.5 s (at most 0.6), load 0.1 s (at most 0.2), "
        "first batch 5 ms (at most 9)"
    ) in lines


def test_rows_without_a_barrier_and_failed_ones_are_left_out():
    other = {"load_late_ms": None, "ready_s_p50": 1.0}
    rows = table({**other}, start(1, 1.0, 1.0, status="failed", trial=1))
    assert cold_starts(rows) == []
    assert of_cold_starts([]) == []


def test_a_plan_from_the_cache_is_no_part_of_the_start():
    [line] = of_cold_starts(cold_starts(table(start(1, 1.1, 1.1, build_cache_hit=True))))[1:]
    assert line == (
        "  1 worker: 1.1 s: load 0.1 s, first batch 5 ms, plan from the cache, built before in 0.5 s"
    )

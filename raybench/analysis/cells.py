"""Cells: what the trials of one point in one environment say together.

Every analysis starts from cells, so that all of them agree on which rows count. Rows are handled
as columns and objects are made for cells only, since a table may hold a hundred thousand rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybench.analysis.builds import with_several_builds
from raybench.analysis.columns import codes, floats, fold, mask
from raybench.analysis.estimate import Estimate
from raybench.analysis.grouping import (
    Groups,
    all_flags,
    group,
    intervals,
    logarithms,
    medians,
    present_values,
    worst_verdicts,
)
from raybench.analysis.marks import marks_from
from raybench.analysis.selection import in_newest_point, newest_rows, series_of_rows
from raybench.analysis.series import SERIES, Series, sort_key

if TYPE_CHECKING:
    from raybench.analysis.builds import CellBuild
    from raybench.analysis.columns import Ints
    from raybench.stats.ratios import Logs

MEDIAN_COLUMNS = (
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p99_ms",
    "imbalance",
    "instance_min_max_ratio",
    "fidelity_sqnr_db",
    "fidelity_cosine",
    "quantised_macs_frac",
    "enqueue_ms_median",
    "h2d_ms_median",
    "compute_ms_median",
    "d2h_ms_median",
    "host_idle_frac",
    "items_per_j",
    "j_per_item",
    "avg_power_w",
    "avg_power_w_lo",
    "avg_power_w_hi",
    "sm_clock_mhz_mean",
    "cpu_mhz_mean",
    "temp_c_max",
    "throttle_power_frac",
    "throttle_thermal_frac",
    "throttle_hw_frac",
    "gpu_mem_peak_mib",
    "gflops_per_item",
    "gpu_sm_frac",
    "gpu_tensor_frac",
    "gpu_fp32_frac",
    "gpu_fp16_frac",
    "gpu_int_frac",
    "gpu_dram_frac",
    "pcie_rx_bytes_per_s",
    "pcie_tx_bytes_per_s",
    "pcie_gen",
    "pcie_width",
    "dram_peak_bytes_per_s",
    "offered_items_per_s",
    "slo_ms",
    "slo_percentile",
    "decoded_per_s_per_core",
    "input_wait_frac",
    "engine_wait_frac",
)
"""Columns of which a cell has the median over its trials."""
NEWEST_COLUMNS = (
    "run_id",
    "dialect",
    "energy_source",
    "device_kind",
    "ci_level",
    "model_identity",
    "reduced_ops",
    "input_shape",
    "parameters",
    "engine_sha256",
    "build",
    "table_parameters",
    "activations_per_item",
    "input_bytes_per_item",
    "output_bytes_per_item",
    "decoder",
    "weight_bytes",
    "kv_cache_bytes",
)
"""Columns of which a cell has the value of its newest trial."""
METRICS = {
    "items_per_s": "higher",
    "tokens_per_s": "higher",
    "latency_p50_ms": "lower",
    "latency_p90_ms": "lower",
    "latency_p99_ms": "lower",
    "j_per_item": "lower",
    "load_s": "lower",
    "first_infer_ms": "lower",
}
"""Columns that a cell can average, and which direction is better."""
_ALWAYS = (
    "run_id",
    "point_id",
    "trial",
    "started_at",
    "workers",
    "status",
    "reason",
    "verdict",
    "flags",
    "items_per_s_lo",
    "items_per_s_hi",
    "first_build_id",
)
_WANTED = (*_ALWAYS, *SERIES, *MEDIAN_COLUMNS, *NEWEST_COLUMNS, *METRICS)


@dataclass(frozen=True)
class Cell:
    """The trials of one point in one environment that ended with one status.

    Trials with a status other than ok make a cell of their own, without numbers.

    Attributes:
        series: every factor but the number of workers.
        reason: why there is no number, from the newest trial; None if ok.
        rows: row numbers of the trials in the given table, oldest first.
        values: the metric in each trial, in the same order; empty unless ok.
        logs: moments of the logarithms of `values`, or of its builds where it has several; None unless
            all are positive.
        mean: mean of `values`, or of its builds, with bounds `lo` and `hi`.
        interval: BUILDS from 2 builds on, BETWEEN from 2 trials on, WITHIN for a single trial, None without
            bounds.
        medians: medians over trials of the columns in `MEDIAN_COLUMNS` that have a value.
        newest: values of the newest trial in `NEWEST_COLUMNS`, without nulls.
        verdict: of the worst trial.
        flags: of any trial.
        builds: its trials by build, where it has several.
        marks: see `marks.MARKS`.
    """

    series: Series
    workers: int | None
    status: str
    reason: str | None
    point_id: str | None
    rows: tuple[int, ...]
    marks: tuple[str, ...]
    values: tuple[float, ...] = ()
    logs: Logs | None = None
    mean: float | None = None
    lo: float | None = None
    hi: float | None = None
    interval: str | None = None
    medians: dict[str, float] = field(default_factory=dict)
    newest: dict[str, Any] = field(default_factory=dict)
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    builds: tuple[CellBuild, ...] = ()

    @property
    def trials(self) -> int:
        """How many trials the cell has."""
        return len(self.rows)

    @property
    def ok(self) -> bool:
        """Whether the cell has a number."""
        return self.mean is not None

    @property
    def estimate(self) -> Estimate:
        """The mean with its interval."""
        return Estimate(self.mean, self.lo, self.hi)

    def get(self, column: str) -> float | None:
        """Return the median of a column of `MEDIAN_COLUMNS`; None where it is unknown."""
        return self.medians.get(column)


def cells(trials: pa.Table, *, metric: str = "items_per_s", mode: str = "weak") -> list[Cell]:
    """Return the cells of a `trials` table by series, then workers, those with numbers first.

    Of several rows of the same trial the newest final one counts. Where two points have the same
    factors (the same preset with another measuring time), the newer one counts.

    Args:
        trials: as `raybench.load` returns it; columns that it lacks count as null.
        metric: the column to average, see `METRICS`.
        mode: "strong" joins points with the same batch of all workers together to one series;
            `series.batch_size` is then that total batch.
    """
    rows, places = newest_rows(trials, _WANTED)
    if not rows.num_rows:
        return []
    if mode == "strong":
        whole = pc.multiply(rows["batch_size"].cast(pa.int64()), rows["workers"].cast(pa.int64()))
        rows = rows.set_column(rows.column_names.index("batch_size"), "batch_size", whole)
    good = mask(pc.equal(rows["status"], "ok")) & ~np.isnan(floats(rows[metric]))
    series_of, series = series_of_rows(rows, good)
    cell_of = fold([series_of, codes(rows["workers"])])
    ok = group(cell_of, good & in_newest_point(rows, cell_of, good))
    failed = group(fold([cell_of, codes(rows["status"])]), ~good)
    every = [
        *_with_numbers(rows, places, ok, [series[k] for k in series_of[ok.last]], metric),
        *_without_numbers(rows, places, failed, [series[k] for k in series_of[failed.last]]),
    ]
    different = {id(cell.series): cell.series for cell in every}
    ordered = sorted(different, key=lambda key: sort_key(different[key]))
    rank = {key: place for place, key in enumerate(ordered)}  # equal series are one object here
    return sorted(
        every,
        key=lambda c: (rank[id(c.series)], c.workers is None, c.workers or 0, not c.ok, c.status),
    )


def singles(trials: pa.Table) -> list[tuple[Series, int, float]]:
    """Return each good trial of one worker: series, row number, items/s.

    Unlike in `cells`, several points may share their factors: the same point on each device.
    """
    rows, places = newest_rows(trials, _WANTED)
    if not rows.num_rows:
        return []
    values = floats(rows["items_per_s"])
    good = mask(pc.equal(rows["status"], "ok")) & ~np.isnan(values)
    series_of, series = series_of_rows(rows, good)
    one = np.flatnonzero(good & mask(pc.equal(rows["workers"], 1)))
    return [(series[series_of[k]], int(places[k]), float(values[k])) for k in one.tolist()]


def _with_numbers(
    rows: pa.Table, places: Ints, groups: Groups, series: list[Series], metric: str
) -> list[Cell]:
    if not series:
        return []
    values = floats(rows[metric])[groups.order]
    means, lo, hi, kinds = intervals(rows, groups, values, metric)
    newest = rows.take(pa.array(groups.last))
    workers, point_ids = newest["workers"].to_pylist(), newest["point_id"].to_pylist()
    row_numbers = groups.parts(places[groups.order].tolist())
    trial_values, logs = groups.parts(values.tolist()), logarithms(values, groups)
    medians_of = medians(rows, groups, MEDIAN_COLUMNS)
    newest_of = present_values(newest, NEWEST_COLUMNS)
    verdicts, flags = worst_verdicts(rows["verdict"], groups), all_flags(rows["flags"], groups)
    made = [
        Cell(
            series=home,
            workers=workers[k],
            status="ok",
            reason=None,
            point_id=point_ids[k],
            rows=row_numbers[k],
            values=trial_values[k],
            logs=logs[k],
            mean=mean,
            lo=lo[k],
            hi=hi[k],
            interval=kinds[k],
            medians=medians_of[k],
            newest=newest_of[k],
            verdict=verdicts[k],
            flags=flags[k],
            marks=marks_from(home, verdicts[k]),
        )
        for k, (home, mean) in enumerate(zip(series, means.tolist(), strict=True))
    ]
    return with_several_builds(made, rows, groups)


def _without_numbers(
    rows: pa.Table, places: Ints, groups: Groups, series: list[Series]
) -> list[Cell]:
    newest = rows.take(pa.array(groups.last))
    columns = zip(
        series,
        newest["workers"].to_pylist(),
        newest["status"].to_pylist(),
        newest["reason"].to_pylist(),
        newest["point_id"].to_pylist(),
        groups.parts(places[groups.order].tolist()),
        strict=True,
    )
    return [
        Cell(home, workers, status, reason, point_id, row_numbers, marks_from(home, None))
        for home, workers, status, reason, point_id, row_numbers in columns
    ]

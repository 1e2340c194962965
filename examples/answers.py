# %% [markdown]
# # From rows to answers
# The analyses behind `raybench report`, from Python: each but `repeats` returns a plain dataclass, and
# `as_table()` makes an Arrow table of it that pandas, polars and DuckDB read directly. Run it as a script with
# one or more results folders, or cell by cell.
#
#     python examples/answers.py results

# %%
from __future__ import annotations

import sys

import pyarrow as pa

import raybench

folders = sys.argv[1:] or ["results"]
trials = pa.concat_tables([raybench.load(folder) for folder in folders])
workers = pa.concat_tables([raybench.load(folder, "workers") for folder in folders])
print(f"{trials.num_rows} trials in {', '.join(folders)}")

# %% How does throughput grow with the number of workers, and what bounds it?
scaling = raybench.scaling(trials, workers)
for curve in scaling.curves:
    print(f"{curve.series.model} {curve.series.precision}: {curve.finding}")
    for bound in curve.bounds:
        print(f"  {bound.workers} workers, {bound.what}: {bound.evidence}")

# %% What does a reduced precision gain, and what does it cost in fidelity?
for gain in raybench.precision(trials).gains:
    if gain.ratio.value is not None:
        bounds = "" if gain.ratio.lo is None else f" [{gain.ratio.lo:.2f}, {gain.ratio.hi:.2f}]"
        fidelity = "-" if gain.fidelity_sqnr_db is None else f"{gain.fidelity_sqnr_db:.1f} dB"
        print(
            f"{gain.series.model} {gain.series.precision}: {gain.ratio.value:.2f}{bounds} x fp32, {fidelity}"
        )

# %% From which batch size on does throughput hardly grow, and at which does memory run out?
for curve in raybench.batch(trials).ladders:
    print(f"{curve.series.model} {curve.series.precision}: {curve.finding}")

# %% How do devices compare at the same points?
for result in raybench.devices(trials).results:
    if result.ratio.value is not None:
        point = f"{result.series.model} {result.series.precision} x{result.workers}"
        print(f"{point}: {result.name} {result.ratio.value:.2f} x {result.base}")

# %% How well does the next trial repeat the last one? (a list, without `as_table()`)
for repeat in raybench.repeats(trials):
    print(
        f"{repeat.series.model} x{repeat.workers}: trials spread by {100 * repeat.spread:.2f} %, "
        f"one trial claims {100 * repeat.within:.2f} %"
    )

# %% What share of the peak was used, and what does a million items cost?
for use in raybench.efficiency(trials, usd_per_device_hour=2.0).uses:
    share = "no printed peak" if use.mfu is None else f"{100 * use.mfu:.1f} % of peak"
    print(f"{use.series.model} x{use.workers}: {share}, {use.usd_per_million_items:.2f} USD")

# %% What is each application bound by, and what does a token of a decoder cost?
for point in raybench.applications(trials).points:
    print(f"{point.series.model}: {point.bound_by or point.status}. {point.decide or ''}")
for ladder in raybench.decoding(trials).ladders:
    print(f"{ladder.name}, {ladder.part}: {ladder.finding}")

# %% Do the findings of the 2017 study hold here?
for finding in raybench.paper(trials).findings:
    print(f"{finding.name}: {finding.verdict}. {finding.reason}")

# %% As an Arrow table, with units in the metadata of its fields
rows = scaling.as_table()
print(rows.select(["model", "precision", "workers", "items_per_s", "speedup"]).schema)

"""A folder as a crash left it, read by raybench and by everybody else; and many files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

import raybench
from raybench.errors import ResultsError


@pytest.fixture
def folder(store, root, write, monkeypatch):
    """Two runs of a few points, one without a number, and what a crash in a write leaves behind."""
    for run in (store.start_run({}), store.start_run({})):
        run.write_environment([{"environment_id": "e1", "env_allowlist": {"A": "b"}}])
        for k in range(3):
            write(run, f"p{k}", flags=["drift"] * k, tags={"k": str(k)})
        write(run, "big", blocks=0, status="out_of_memory", items_per_s=None, reason="Smaller.")
    temporaries = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda a, b: (temporaries.append(a), replace(a, b)))
    write(run, "last")
    for path in temporaries:
        path.write_bytes(b"PAR1 torn")
    return root


@pytest.mark.parametrize("table", ["trials", "workers", "blocks", "environment"])
def test_all_readers_take_the_folder_as_it_lies(folder, table):
    expected = raybench.load(folder, table)
    size = (expected.num_rows, expected.column_names)
    path = folder / table
    frame = pd.read_parquet(path)
    assert (len(frame), list(frame.columns)) == size
    lazy = pl.scan_parquet(path).collect()  # refuses a folder with files of another ending
    assert (lazy.height, lazy.columns) == size
    found = duckdb.sql(f"select * from read_parquet('{path}/**/*.parquet')")
    assert (len(found), found.columns) == size


def test_the_readers_agree_on_values(folder):
    path = folder / "trials"
    assert raybench.load(folder)["items_per_s"].null_count == 2
    frame = pd.read_parquet(path)
    assert frame["items_per_s"].isna().sum() == 2
    assert frame["items_per_s"].sum() == 7 * 1234.5
    assert pl.scan_parquet(path).select("items_per_s").collect().sum().item() == 7 * 1234.5
    ask = f"select count(items_per_s), count(*) from read_parquet('{path}/**/*.parquet')"
    assert duckdb.sql(ask).fetchall() == [(7, 9)]


@pytest.mark.parametrize("keep", [0, 3, 200, -1])
def test_wherever_a_file_is_cut_off_it_is_passed_over(store, root, write, keep):
    run = store.start_run({})
    write(run, "p1")
    write(run, "p2")
    path = root / "trials" / run.id / "p1-t0.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.warns(UserWarning, match=r"p1-t0\.parquet cannot be read") as caught:
        assert raybench.load(root)["point_id"].to_pylist() == ["p2"]
    assert len(caught) == 1


def test_many_bad_files_make_one_short_warning(store, root, write):
    run = store.start_run({})
    for k in range(6):
        write(run, f"p{k}")
        if k:
            (root / "trials" / run.id / f"p{k}-t0.parquet").write_bytes(b"")
    with pytest.warns(UserWarning, match="and 2 more") as caught:
        assert raybench.load(root).num_rows == 1
    assert len(caught) == 1


def test_a_newer_format_is_refused(store, root, write):
    write(store.start_run({}))
    (root / "raybench.json").write_text('{"format_version": 2}')
    with pytest.raises(ResultsError, match="newer than 1"):
        raybench.load(root)


def test_every_file_of_many_trials_is_opened_once(store, root, write, monkeypatch):
    run = store.start_run({})
    write(run)
    path = root / "trials" / run.id / "p1-t0.parquet"
    for k in range(300):
        path.with_name(f"q{k}-t0.parquet").write_bytes(path.read_bytes())
    opened = Counter()

    def count(source, *arguments, **options):
        opened[str(source)] += 1
        return parquet_file(source, *arguments, **options)

    parquet_file = pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", count)
    assert raybench.load(root).num_rows == 301
    assert len(opened) == sum(opened.values()) == 301

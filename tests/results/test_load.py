"""Reading a results folder: with raybench, with what people already use, and from a laptop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import raybench
from raybench.errors import ResultsError
from raybench.results.load import compact
from raybench.results.schema import SCHEMAS
from raybench.results.store import Store

if TYPE_CHECKING:
    from pathlib import Path

OK = {
    "status": "ok",
    "verdict": "stable",
    "environment_id": "e1",
    "flags": ["outliers"],
    "tags": {"rack": "7"},
    "model": "resnet50",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two runs of two trials each; the second run failed once."""
    store = Store(tmp_path / "results")
    for number in range(2):
        run = store.start_run({})
        run.write_environment([{"environment_id": "e1", "hostname": "a"}])
        rate = {"items_per_s": 100.0 + number, "workers": 1 + number}
        run.write_point(
            "a" * 20, 0, trials={**OK, **rate}, workers=[{"worker": 0}], blocks=[{"block": 0}] * 3
        )
        bad = {"status": "failed", "reason": "It broke."} if number else {**OK, **rate}
        run.write_point("a" * 20, 1, trials=bad)
    return tmp_path / "results"


def a_trial(root: Path) -> Path:
    return sorted((root / "trials").rglob("*.parquet"))[0]


# --- raybench.load --------------------------------------------------------------------------------


def test_load_gives_trials_of_all_runs(root: Path):
    table = raybench.load(root)
    assert isinstance(table, pa.Table)
    assert table.num_rows == 4
    assert table.schema.equals(SCHEMAS["trials"])
    assert table.schema.field("window_s").metadata[b"unit"] == b"s"
    assert table["items_per_s"].to_pylist() == [100, 100, 101, None]
    assert len(set(table["run_id"].to_pylist())) == 2


def test_load_gives_other_tables_and_single_runs(root: Path):
    first = sorted(os.listdir(root / "runs"))[0]
    assert raybench.load(str(root), "blocks").num_rows == 6
    assert raybench.load(root, table="workers", runs=[first]).num_rows == 1
    assert raybench.load(root, "environment").num_rows == 2
    assert raybench.load(root, "samples").num_rows == 0


def test_errors_are_one_sentence_with_a_way_out(root: Path, tmp_path: Path):
    with pytest.raises(ResultsError, match=r"nowhere' does not exist\. Give the folder"):
        raybench.load(tmp_path / "nowhere")
    with pytest.raises(ResultsError, match="is a file"):
        raybench.load(root / "raybench.json")
    with pytest.raises(ResultsError, match=r"'block' does not exist\. Did you mean 'blocks'\?"):
        raybench.load(root, "block")
    with pytest.raises(ResultsError, match="not a results folder"):
        raybench.load(tmp_path)
    Store(tmp_path / "new")
    with pytest.raises(ResultsError, match="holds no finished trial"):
        raybench.load(tmp_path / "new")
    with pytest.raises(ResultsError, match="holds no finished trial"):
        raybench.load(tmp_path / "new", "blocks")


def test_load_writes_nothing(root: Path):
    before = sorted(str(path) for path in root.rglob("*"))
    raybench.load(root)
    assert sorted(str(path) for path in root.rglob("*")) == before


def test_load_skips_what_is_torn_or_strange_and_says_so(root: Path):
    whole = a_trial(root).read_bytes()
    (root / "trials" / "torn.parquet").write_bytes(whole[: len(whole) // 2])
    pq.write_table(pa.table({"mine": [1]}), root / "trials" / "mine.parquet")
    (root / "trials" / ".tmp-1-ab").write_bytes(whole)
    with pytest.warns(UserWarning, match=r"mine.parquet is not a raybench.+torn.parquet cannot"):
        assert raybench.load(root).num_rows == 4


def test_files_of_other_versions_unite(root: Path):
    path = a_trial(root)
    rows = pq.read_table(path, partitioning=None)
    older = rows.drop_columns(["nice", "fidelity_cosine"])
    newer = rows.append_column("questions_per_s", pa.array([7.0]))
    newer = newer.set_column(
        newer.schema.get_field_index("trial"), "trial", rows["trial"].cast(pa.int32())
    )
    pq.write_table(older, path)
    pq.write_table(newer, path.with_name("new-t0.parquet"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = raybench.load(root)
    assert table.num_rows == 5
    assert table.column_names == [*SCHEMAS["trials"].names, "questions_per_s"]
    assert sorted(table["questions_per_s"].to_pylist(), key=str) == [7.0, None, None, None, None]


def test_a_column_that_cannot_be_leaves_its_file_out(root: Path):
    path = a_trial(root)
    rows = pq.read_table(path, partitioning=None)
    place = rows.schema.get_field_index("items_per_s")
    pq.write_table(rows.set_column(place, "items_per_s", pa.array(["fast"])), path)
    with pytest.warns(UserWarning, match="items_per_s"):
        assert raybench.load(root).num_rows == 3


# --- compact --------------------------------------------------------------------------------------


def test_compact_changes_nothing_but_the_time(root: Path):
    before = {table: raybench.load(root, table) for table in ("trials", "blocks", "environment")}
    compact(root)
    assert sorted(os.listdir(root / "compact")) == [
        "blocks.parquet",
        "environment.parquet",
        "trials.parquet",
        "workers.parquet",
    ]
    for table, rows in before.items():
        assert raybench.load(root, table).equals(rows)
        assert raybench.load(root, table).schema.equals(rows.schema, check_metadata=True)
    compact(root)
    assert raybench.load(root).equals(before["trials"])


def test_what_is_newer_than_the_compact_file_counts(root: Path):
    compact(root)
    Store(root).start_run({}).write_point("b" * 20, 0, trials=OK, blocks=[{"block": 0}])
    path = a_trial(root)
    rows = pq.read_table(path, partitioning=None)
    place = rows.schema.get_field_index("model")
    pq.write_table(rows.set_column(place, "model", pa.array(["alexnet"])), path)
    table = raybench.load(root)
    assert table.num_rows == 5
    assert table["model"].to_pylist().count("alexnet") == 1
    assert raybench.load(root, "blocks").num_rows == 7


def test_a_deleted_file_is_gone_also_from_compact(root: Path):
    compact(root)
    a_trial(root).unlink()
    assert raybench.load(root).num_rows == 3


def test_compact_stands_alone_when_the_folder_is_gone(root: Path):
    compact(root)
    for table in ("trials", "blocks"):
        (root / table).rename(root / f"_{table}")
    assert raybench.load(root).num_rows == 4
    assert raybench.load(root, "blocks").num_rows == 6
    assert len(Store(root).finals()) == 3


# --- other readers, without options ---------------------------------------------------------------


def test_pandas_reads_the_folder_as_it_lies(root: Path):
    frame = pd.read_parquet(root / "trials")
    assert len(frame) == 4
    assert frame["run_id"].nunique() == 2
    assert set(frame["status"]) == {"ok", "failed"}
    assert len(pd.read_parquet(root / "blocks")) == 6


def test_polars_reads_the_folder_as_it_lies(root: Path):
    frame = pl.scan_parquet(f"{root}/trials/**/*.parquet").collect()
    assert frame.height == 4
    assert frame["run_id"].n_unique() == 2
    assert frame.schema["run_id"] == pl.String
    assert pl.read_parquet(f"{root}/blocks/**/*.parquet").height == 6


@pytest.mark.parametrize("option", ["", ", hive_partitioning=true", ", union_by_name=true"])
def test_duckdb_reads_the_folder_as_it_lies(root: Path, option: str):
    rows = duckdb.sql(
        f"select run_id, count(*), sum(items_per_s), max(flags[1]), max(tags['rack'])"
        f" from read_parquet('{root}/trials/**/*.parquet'{option})"
        f" where typeof(run_id) = 'VARCHAR' group by run_id order by run_id"
    ).fetchall()
    assert [row[1:3] for row in rows] == [(2, 200.0), (2, 101.0)]
    assert rows[0][3] == "outliers"


def test_all_readers_see_the_compact_file(root: Path):
    compact(root)
    path = str(root / "compact" / "trials.parquet")
    assert len(pd.read_parquet(path)) == pl.read_parquet(path).height == 4
    assert duckdb.sql(f"select count(*) from '{path}'").fetchall() == [(4,)]


def test_units_are_in_the_file(root: Path):
    field = pq.read_schema(a_trial(root)).field("latency_p99_ms")
    assert field.metadata[b"unit"] == b"ms"


# --- import raybench ------------------------------------------------------------------------------


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_import_raybench_loads_no_other_library():
    code = "import sys, json, raybench; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(fresh(code))
    heavy = {"ray", "pyarrow", "numpy", "onnx", "scipy", "rich", "yaml"}
    assert heavy.isdisjoint(modules)


def test_every_public_name_is_listed_and_resolves():
    code = (
        "import raybench; print(dir(raybench) == sorted(raybench.__all__), raybench.load.__name__)"
    )
    assert fresh(code) == "True load\n"
    assert all(getattr(raybench, name) is not None for name in raybench.__all__)
    from raybench.experiment import Experiment, Point

    assert (raybench.Experiment, raybench.Point) == (Experiment, Point)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = raybench.lode

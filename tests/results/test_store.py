"""The store: whole files or none, a marker written last, and refusals with a way out."""

from __future__ import annotations

import errno
import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import raybench
from raybench.errors import ResultsError
from raybench.results.store import Store, build, ulid


def parquet_files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.parquet"))


# --- layout ---------------------------------------------------------------------------------------


def test_a_new_folder_is_made_with_all_above_it(tmp_path):
    root = tmp_path / "deep" / "er"
    Store(root)
    assert json.loads((root / "raybench.json").read_text())["format_version"] == 1


def test_a_home_sign_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Store("~/rows")
    assert (tmp_path / "rows" / "raybench.json").is_file()


def test_an_empty_folder_and_one_with_hidden_files_will_do(root):
    root.mkdir()
    (root / ".DS_Store").touch()
    Store(root)


def test_a_folder_of_raybench_is_opened_again_and_keeps_its_rows(store, root, write):
    write(store.start_run({}))
    write(Store(root).start_run({}))
    assert raybench.load(root).num_rows == 2


def test_one_file_a_table_and_trial(store, root, write):
    run = store.start_run({})
    write(run, "p1", 0)
    write(run, "p1", 1)
    assert parquet_files(root) == sorted(
        f"{table}/{run.id}/p1-t{trial}.parquet"
        for table in ("trials", "workers", "blocks")
        for trial in (0, 1)
    )


def test_the_manifest_tells_what_was_asked_and_how_it_ended(store, root):
    run = store.start_run({"experiment": "smoke", "command": ["experiment=smoke"]})
    path = root / "runs" / run.id / "manifest.json"
    begun = json.loads(path.read_text())
    assert (begun["state"], begun["ended_at"], begun["experiment"]) == ("running", None, "smoke")
    run.finish("interrupted")
    ended = json.loads(path.read_text())
    assert ended["state"] == "interrupted"
    assert ended["ended_at"] >= begun["started_at"]
    with pytest.raises(ValueError, match="lost"):
        run.finish("lost")


def test_run_ids_sort_by_time():
    ids = [ulid() for _ in range(100)]
    assert ids == sorted(set(ids))
    assert all(len(name) == 26 for name in ids)


# --- refusals -------------------------------------------------------------------------------------


def refusal(root: Path) -> str:
    with pytest.raises(ResultsError) as caught:
        Store(root)
    message = str(caught.value)
    assert str(root) in message
    assert "\n" not in message
    assert "results.dir=PATH" in message or "another folder" in message
    return message


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "rows"
    path.write_text("mine")
    assert "is a file" in refusal(path)
    assert path.read_text() == "mine"


def test_below_a_file_there_is_no_folder(tmp_path):
    (tmp_path / "rows").touch()
    assert "cannot be written" in refusal(tmp_path / "rows" / "more")


def test_a_folder_that_cannot_be_made_is_refused():
    assert "cannot be written: No such file or directory" in refusal("/proc/rows")


def test_a_foreign_file_whose_name_is_not_utf_8_does_no_harm(tmp_path):
    root = tmp_path / "rows"
    store = Store(root)
    (root / "trials").mkdir(exist_ok=True)
    with open(os.fsencode(root / "trials") + b"/m\xfcller.txt", "wb"):
        pass
    assert store.finals() == {}
    with open(os.fsencode(tmp_path) + b"/m\xfcller.txt", "wb"):
        pass
    assert "is not empty" in refusal(tmp_path) or "raybench" in refusal(tmp_path)


def test_a_folder_without_the_right_to_write(root, monkeypatch):
    root.mkdir()

    def touch(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", touch)  # the tests may run as root, who may write anywhere
    assert "cannot be written: Permission denied" in refusal(root)


def test_a_folder_that_its_mode_forbids_even_to_root(root, monkeypatch):
    root.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refusal(root)
    assert not list(root.iterdir())


def test_the_folder_of_somebody_else_is_left_alone(root):
    root.mkdir()
    (root / "thesis.tex").touch()
    assert "thesis.tex" in refusal(root)
    assert [path.name for path in root.iterdir()] == ["thesis.tex"]


def test_the_folder_of_a_newer_raybench(root):
    root.mkdir()
    (root / "raybench.json").write_text('{"format_version": 99}')
    message = refusal(root)
    assert "99" in message
    assert "Update raybench" in message


@pytest.mark.parametrize("text", ["", "{}", "[1]", '"x"', '{"format_version": null}', "\x00"])
def test_a_broken_format_file(root, text):
    root.mkdir()
    (root / "raybench.json").write_text(text)
    assert "raybench.json" in refusal(root)


# --- whole or not at all --------------------------------------------------------------------------


def test_trials_is_written_last(store, write, monkeypatch):
    run = store.start_run({})
    names = []
    whole = store.files.write
    monkeypatch.setattr(
        store.files, "write", lambda name, data: (names.append(name), whole(name, data))
    )
    write(run)
    assert [name.split("/")[0] for name in names] == ["blocks", "workers", "trials"]


def test_a_trial_that_was_cut_off_does_not_count(store, root, write, monkeypatch):
    run = store.start_run({})
    write(run, "whole")

    def power_cut(self, target):
        if "trials" in target.parts:
            raise KeyboardInterrupt
        return replace(self, target)

    replace = Path.replace
    monkeypatch.setattr(Path, "replace", power_cut)
    with pytest.raises(KeyboardInterrupt):
        write(run, "cut")
    assert f"blocks/{run.id}/cut-t0.parquet" in parquet_files(root)
    assert list(store.finals()) == [("whole", 0, "e1")]
    for table in ("trials", "workers", "blocks"):
        assert set(raybench.load(root, table)["point_id"].to_pylist()) == {"whole"}


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(store, root, write, monkeypatch):
    run = store.start_run({})
    write(run, items_per_s=1.0)

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResultsError, match=r"No space left on device. Free space .*results\.dir"):
        write(run, items_per_s=2.0)
    assert raybench.load(root)["items_per_s"].to_pylist() == [1.0]
    assert not [path for path in root.rglob("*") if path.name.startswith(".tmp")]


def test_rows_that_find_no_room_are_kept_elsewhere_and_the_message_says_how_to_bring_them_back(
    store, root, write, monkeypatch, tmp_path
):
    run = store.start_run({})
    write(run, "early")
    replace = Path.replace

    def full(self, target):
        if root in target.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(ResultsError, match=r"No space left on device.*cp -r") as caught:
            write(run, "late")
        write(run, "later")  # what else was measured is not lost either
    assert raybench.load(root)["point_id"].to_pylist() == ["early"]
    (saved,) = tmp_path.glob("raybench-rescued-*")
    command = str(caught.value).partition("cp -r ")[2]
    assert command == f"{saved}/. {root}/"
    os.system(f"cp -r {command}")
    assert sorted(raybench.load(root)["point_id"].to_pylist()) == ["early", "late", "later"]


def test_a_folder_of_many_files_is_compacted_and_says_the_same(store, root, write, monkeypatch):
    monkeypatch.setattr("raybench.results.store.MANY_FILES", 3)
    run = store.start_run({})
    for name in ("a", "b", "c"):
        write(run, name)
    store.tidy()
    assert not (root / "compact").exists()
    write(run, "d")
    store.tidy()
    assert (root / "compact" / "trials.parquet").exists()
    changed = (root / "compact" / "trials.parquet").stat().st_mtime_ns
    write(run, "e")
    store.tidy()
    assert (root / "compact" / "trials.parquet").stat().st_mtime_ns == changed
    assert sorted(key[0] for key in store.finals()) == ["a", "b", "c", "d", "e"]


def test_a_disk_that_cannot_flush_a_folder_will_do(store, root, write, monkeypatch):
    def fsync(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("os.fsync", fsync)
    write(store.start_run({}))
    assert raybench.load(root).num_rows == 1


# --- rows -----------------------------------------------------------------------------------------


def test_unknown_stays_null(store, root, write):
    write(store.start_run({}), latency_p99_ms=None, latency_p90_ms=float("nan"), flags=None)
    row = raybench.load(root).to_pylist()[0]
    assert [row[c] for c in ("latency_p99_ms", "latency_p90_ms", "flags", "energy_j")] == [None] * 4
    assert row["items_per_s"] == 1234.5
    file = next((root / "trials").rglob("*.parquet"))
    assert pq.read_table(file)["latency_p99_ms"].null_count == 1


def test_values_come_back_as_they_went(store, root, write):
    sent = {
        "flags": ["wide_ci", "drift"],
        "tags": {"rack": "7", "who": "Ärzte"},
        "transfers": False,
        "simulated": True,
        "reason": "§ 1",
    }
    write(store.start_run({}), **sent)
    row = raybench.load(root).to_pylist()[0]
    assert {**row, "tags": dict(row["tags"])}.items() >= sent.items()
    assert row["started_at"].tzinfo is not None


def test_the_keys_are_filled_in(store, root, write):
    run = store.start_run({})
    write(run, "p7", 3)
    for table in ("trials", "workers", "blocks"):
        row = raybench.load(root, table).to_pylist()[0]
        keys = ("run_id", "point_id", "trial", "environment_id", "schema_version")
        assert [row[key] for key in keys] == [run.id, "p7", 3, "e1", 1]


def test_files_carry_units_and_versions(store, root, write):
    write(store.start_run({}))
    schema = pq.read_schema(next((root / "trials").rglob("*.parquet")))
    assert schema.field("latency_p99_ms").metadata[b"unit"] == b"ms"
    assert schema.field("items_per_s").metadata[b"description"]
    assert schema.metadata[b"raybench.version"] == raybench.__version__.encode()


def test_an_unknown_column_is_an_error(store, root, write):
    with pytest.raises(TypeError, match="'trials' has no column 'throughput'"):
        write(store.start_run({}), throughput=1.0)
    assert parquet_files(root) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("items_per_s", "fast"),
        ("batch_size", 8.5),
        ("batch_size", np.float32(8.5)),
        ("batch_size", True),
        ("workers", 70_000),
        ("transfers", 1),
        ("flags", "drift"),
        ("model", 50),
        ("tags", {"rack": 7}),
        ("started_at", datetime(2026, 11, 1)),
    ],
)
def test_a_value_of_another_type_is_an_error_that_names_the_column(store, write, column, value):
    with pytest.raises(TypeError, match=column):
        write(store.start_run({}), **{column: value})


def test_lists_of_whole_numbers_take_no_fractions():
    with pytest.raises(TypeError, match="latency_hist_counts"):
        build("workers", [{"latency_hist_counts": [1.5]}], {})
    rows = build("workers", [{"latency_hist_counts": [1, 2]}, {"latency_hist_counts": None}], {})
    assert rows["latency_hist_counts"].to_pylist() == [[1, 2], None]


def test_columns_may_be_arrays():
    rows = build("samples", {"seq": np.arange(3), "latency_ns": np.array([5.0, 6.0, 7.0])}, {})
    assert rows["latency_ns"].to_pylist() == [5, 6, 7]
    with pytest.raises(TypeError, match="latency_ns"):
        build("samples", {"latency_ns": np.array([5.0, 6.5])}, {})
    with pytest.raises(ValueError, match="'latency_ns' of 'samples' has 2 values, others 3"):
        build("samples", {"seq": np.arange(3), "latency_ns": np.arange(2)}, {})


@pytest.mark.parametrize(("column", "value"), [("status", "fine"), ("verdict", "good")])
def test_status_and_verdict_are_closed_lists(store, write, column, value):
    with pytest.raises(ValueError, match=value):
        write(store.start_run({}), **{column: value})


@pytest.mark.parametrize("point_id", ["../p", "", ".p", "a/b"])
def test_a_point_that_names_no_file(store, write, point_id):
    with pytest.raises(ValueError, match="cannot name a file"):
        write(store.start_run({}), point_id)


def test_samples_are_kept_on_request(store, root):
    run = store.start_run({})
    samples = {"worker": [0, 0], "seq": [0, 1], "latency_ns": [5, 6]}
    run.write_point("p", 0, trials={"status": "ok"}, samples=samples)
    assert raybench.load(root, "samples")["latency_ns"].to_pylist() == [5, 6]


def test_an_environment_is_a_row_a_device(store, root, write):
    run = store.start_run({})
    run.write_environment(
        [
            {"environment_id": "e1", "hostname": "a", "env_allowlist": {"OMP_NUM_THREADS": "1"}},
            {"environment_id": "e1", "hostname": "b"},
        ]
    )
    write(run)
    assert raybench.load(root, "environment")["hostname"].to_pylist() == ["a", "b"]
    with pytest.raises(ValueError, match="environment_id"):
        run.write_environment([{"hostname": "c"}])


# --- resume ---------------------------------------------------------------------------------------


def test_finals_are_what_need_not_run_again(store, write):
    first = store.start_run({})
    write(first, "done")
    write(first, "big", status="out_of_memory", reason="Use a smaller batch.")
    write(first, "dead", status="worker_died", reason="Run it again.")
    write(first, "half", status="interrupted", reason="Run it again.")
    write(first, "done", 1, environment_id="e2", verdict="unstable")
    assert store.finals() == {
        ("done", 0, "e1"): ("ok", "stable"),
        ("big", 0, "e1"): ("out_of_memory", None),
        ("dead", 0, "e1"): ("worker_died", None),
        ("done", 1, "e2"): ("ok", "unstable"),
    }


def test_the_newest_final_row_counts(store, write):
    first, second, third = (store.start_run({}) for _ in range(3))
    write(second, "p", minute=1)
    write(first, "p", status="failed", reason="No.")
    assert store.finals() == {("p", 0, "e1"): ("ok", "stable")}
    write(third, "p", status="interrupted", minute=2)
    assert store.finals() == {("p", 0, "e1"): ("ok", "stable")}


def test_resume_passes_over_what_is_torn_and_says_so(store, root, write):
    run = store.start_run({})
    write(run, "good")
    write(run, "torn")
    path = root / "trials" / run.id / "torn-t0.parquet"
    path.write_bytes(path.read_bytes()[:100])
    assert list(store.finals()) == [("good", 0, "e1")]
    assert len(store.warnings) == 1
    assert "torn-t0.parquet" in store.warnings[0]


def test_an_empty_store_has_no_finals(store):
    assert store.finals() == {}


def test_a_folder_that_was_removed_during_a_run_can_be_used_by_the_next(store, root, write):
    run = store.start_run({})
    shutil.rmtree(root)
    write(run)
    run.finish("interrupted")
    assert len(Store(root).finals()) == 1

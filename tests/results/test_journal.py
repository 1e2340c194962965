"""Long runs: a few files, nothing lost in a crash, and all of it Parquet at the end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

import raybench
from raybench.errors import ResultsError
from raybench.results import journal
from raybench.results.load import compact
from raybench.results.store import Store

TABLES = ("trials", "workers", "blocks")


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Two files of their own, then segments of three trials."""
    monkeypatch.setattr("raybench.results.store.FIRST_FILES", 2)
    monkeypatch.setattr(journal, "SEGMENT_TRIALS", 3)


@pytest.fixture
def fill(write):
    def fill(run, count, begin=0):
        for k in range(begin, begin + count):
            write(run, f"p{k}")

    return fill


def files_of(root, table="trials"):
    return sorted(path.name for path in (root / table).glob("*/*.parquet"))


def journals_of(root):
    return sorted(path.name for path in root.glob("runs/*/*.journal"))


def points(root, table="trials"):
    return sorted(raybench.load(root, table)["point_id"].to_pylist(), key=lambda p: int(p[1:]))


def test_all_rows_are_read_while_some_are_in_a_journal(store, root, fill):
    run = store.start_run({})
    fill(run, 7)
    assert files_of(root) == ["p0-t0.parquet", "p1-t0.parquet", "segment-0000.parquet"]
    assert journals_of(root) == ["segment-0001.journal"]
    assert points(root) == [f"p{k}" for k in range(7)]
    assert points(root, "workers") == points(root)
    assert raybench.load(root, "blocks").num_rows == 14
    assert len(store.finals()) == 7
    assert raybench.load(root, runs=[run.id]).num_rows == 7


def test_everything_is_parquet_at_the_end(store, root, fill):
    run = store.start_run({})
    fill(run, 7)
    before = {table: raybench.load(root, table).sort_by("point_id") for table in TABLES}
    run.finish("finished")
    assert journals_of(root) == []
    for table, rows in before.items():
        assert raybench.load(root, table).sort_by("point_id").equals(rows)
        assert pq.read_table(root / table).num_rows == rows.num_rows


def test_files_stay_few_however_long_the_run(store, root, write, monkeypatch):
    monkeypatch.setattr(journal, "GROWTH", 2)
    run = store.start_run({})
    for trial in range(200):
        write(run, "p1", trial, blocks=0)
    run.finish("finished")
    assert raybench.load(root).num_rows == 200
    assert len(files_of(root)) < 16


def test_a_large_journal_becomes_a_segment(store, root, fill, monkeypatch):
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1)
    fill(store.start_run({}), 4)
    assert len(files_of(root)) == 4
    assert journals_of(root) == []


@pytest.mark.parametrize("cut", [1, 100, 20_000])
def test_a_frame_that_was_cut_off_does_not_count(store, root, fill, cut):
    fill(store.start_run({}), 4)
    (path,) = root.glob("runs/*/*.journal")
    os.truncate(path, path.stat().st_size - cut)
    for table in TABLES:
        assert set(points(root, table)) == {"p0", "p1", "p2"}


def test_a_frame_with_a_changed_byte_does_not_count(store, root, fill):
    fill(store.start_run({}), 3)
    (path,) = root.glob("runs/*/*.journal")
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    assert points(root) == ["p0", "p1"]


def test_an_append_that_fails_leaves_no_part_and_the_row_is_kept_elsewhere(
    store, root, fill, write, monkeypatch, tmp_path
):
    run = store.start_run({})
    fill(run, 3)
    whole = os.write

    def full(handle, data):
        if len(data) > 10_000:
            return whole(handle, data[:10_000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        with pytest.raises(ResultsError, match=r"No space left on device.*cp -r"):
            write(run, "p3")
    write(run, "p4")
    assert points(root) == ["p0", "p1", "p2"]
    (saved,) = tmp_path.glob("raybench-rescued-*")
    os.system(f"cp -r {saved}/. {root}/")
    run.finish("interrupted")
    assert points(root) == [f"p{k}" for k in range(5)]


def test_a_segment_that_finds_no_room_stays_a_journal(store, root, fill, monkeypatch):
    run = store.start_run({})
    fill(run, 4)

    def full(name, data):
        raise ResultsError("No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr(store.files, "write", full)
        fill(run, 2, 4)
        with pytest.raises(ResultsError):
            run.finish("finished")
        assert points(root) == [f"p{k}" for k in range(6)]
    run.finish("finished")
    assert journals_of(root) == []
    assert points(root) == [f"p{k}" for k in range(6)]


def test_a_crash_between_the_tables_of_a_segment_counts_no_row_twice(
    store, root, fill, monkeypatch
):
    run = store.start_run({})
    fill(run, 4)
    whole = store.files.write

    def cut(name, data):
        if name.startswith("trials/"):
            raise KeyboardInterrupt
        whole(name, data)

    with monkeypatch.context() as patch:
        patch.setattr(store.files, "write", cut)
        with pytest.raises(KeyboardInterrupt):
            fill(run, 1, 4)
    assert files_of(root, "workers")[-1] == "segment-0000.parquet"
    for table in ("trials", "workers"):
        assert points(root, table) == [f"p{k}" for k in range(5)]
    journal.settle(store.files)
    assert journals_of(root) == []
    assert points(root, "workers") == points(root) == [f"p{k}" for k in range(5)]


def test_a_journal_beside_its_segment_is_passed_over_and_removed(store, root, fill):
    run = store.start_run({})
    fill(run, 4)
    (path,) = root.glob("runs/*/*.journal")
    content = path.read_bytes()
    run.finish("finished")
    path.write_bytes(content)
    assert points(root) == [f"p{k}" for k in range(4)]
    journal.settle(store.files)
    assert journals_of(root) == []


def test_rows_that_another_driver_stored_meanwhile_are_not_lost(store, root, fill):
    run = store.start_run({})
    fill(run, 4)
    journal.settle(Store(root).files)  # took this one, which stood still, for dead
    fill(run, 1, 4)
    run.finish("finished")
    assert points(root) == [f"p{k}" for k in range(5)]
    assert points(root, "workers") == points(root)


def test_two_runs_in_one_folder_have_journals_of_their_own(store, root, fill):
    first, second = store.start_run({}), store.start_run({})
    fill(first, 3)
    fill(second, 3, 3)
    assert len(journals_of(root)) == 2
    assert points(root) == [f"p{k}" for k in range(6)]
    first.finish("finished")
    assert points(root) == [f"p{k}" for k in range(6)]


def test_the_compact_file_holds_what_is_a_file_of_its_own_and_loads_say_the_same(store, root, fill):
    run = store.start_run({})
    fill(run, 7)
    compact(root)
    assert pq.read_table(root / "compact" / "trials.parquet").num_rows == 2
    assert points(root) == [f"p{k}" for k in range(7)]
    run.finish("finished")
    fill(store.start_run({}), 1, 7)
    assert points(root) == [f"p{k}" for k in range(8)]
    assert points(root, "workers") == points(root)


def test_the_journal_of_a_driver_at_work_is_left_alone(store, root, write):
    with store.claim("e1", {("p0", 0)}) as lease:
        run = store.start_run({}, lease.lease.run_id)
        for k in range(3):
            write(run, f"p{k}")
        with Store(root).claim("e1", {("other", 0)}):
            assert journals_of(root) == ["segment-0000.journal"]
    with Store(root).claim("e1", {("other", 0)}):  # its lease is gone, whoever removed it
        assert journals_of(root) == []
    assert points(root) == ["p0", "p1", "p2"]


def test_a_driver_that_is_killed_loses_no_row_it_announced_and_the_next_makes_them_parquet(root):
    words = f"""
import sys
from raybench.results import journal
from raybench.results.store import Store
store = Store({str(root)!r})
with store.claim("e", {{("p", 0)}}) as lease:
    run = store.start_run({{}}, lease.lease.run_id)
    for k in range(10_000):
        rows = [{{"worker": 0, "block": b, "phase": "measure", "items": 1}} for b in range(500)]
        row = {{"environment_id": "e", "status": "ok", "verdict": "stable", "workers": 1}}
        run.write_point(f"p{{k}}", 0, trials=row, workers=[{{"worker": 0}}], blocks=rows)
        print(k, flush=True)
"""
    driver = subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True)
    announced = [int(driver.stdout.readline()) for _ in range(40)]
    driver.send_signal(signal.SIGKILL)
    announced += [int(line) for line in driver.communicate()[0].splitlines()]
    kept = points(root)
    assert {f"p{k}" for k in announced} <= set(kept)
    assert points(root, "workers") == kept
    assert raybench.load(root, "blocks").num_rows == 500 * len(kept)
    assert journals_of(root)
    with Store(root).claim("e", {("p", 0)}):
        assert journals_of(root) == []
    assert points(root) == kept
    assert pq.read_table(root / "trials").num_rows == len(kept)

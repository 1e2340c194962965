"""`raybench clean`: what it shows, what it removes, and what it never touches."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from raybench.cli import clean
from raybench.cli.main import main
from raybench.cluster import session_folders
from raybench.machine import crash_log
from raybench.models.cache import Cache
from raybench.results import leases
from raybench.results.storage import Folder
from raybench.version import __version__

HELD = []
"""Folders of drivers that live until the end of a test."""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with folders of its own for Ray, temporary files, cache and home."""
    for name in ("ray-parent", "temporary", "cache", "home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "ray-parent"))
    monkeypatch.setattr(session_folders, "ray_folders", lambda: [tmp_path / "ray-parent" / "ray"])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("raybench.results.store.FALLBACK_DIRS", ())
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path
    while HELD:
        HELD.pop()._lock.close()


def ray_session(machine, name, driver=None):
    """Make the folder of a session of Ray; "dead" and "alive" drivers have marked it."""
    folder = machine / "ray-parent" / "ray" / f"session_{name}"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "raylet.out").write_bytes(b"x" * 2048)
    if driver == "dead":
        own = session_folders.SessionFolder()
        own.mark(folder)
        own._lock.close()
    elif driver == "alive":
        HELD.append(session_folders.SessionFolder())
        HELD[-1].mark(folder)
    return folder


def cache_entry(machine, key, version):
    folder = machine / "cache" / "models" / key
    folder.mkdir(parents=True)
    facts = {"files": {}, "facts": {}} | ({"raybench": version} if version else {})
    (folder / "entry.json").write_text(json.dumps(facts))
    return folder


def unfinished_row(machine, age_s):
    file = machine / "work" / "results" / f".tmp-7-{age_s}"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"half")
    os.utime(file, (time.time() - age_s,) * 2)
    return file


def lease_of_a_dead_driver(machine):
    folder = Folder(str(machine / "work" / "results"))
    lease = leases.Lease("R1", "host", 4194999, ("boot", "1"), "2026-11-28T20:00", "e", frozenset())
    leases._write(folder, lease)
    file = machine / "work" / "results" / leases.FOLDER / "R1.json"
    os.utime(file, (time.time() - 7200,) * 2)
    return file


@pytest.fixture
def leftovers(machine):
    """Everything that may be removed; and what may not, which is checked at the end."""
    removable = [
        ray_session(machine, "dead", "dead"),
        cache_entry(machine, "a" * 40, "0.0.1"),
        cache_entry(machine, "b" * 40, None),
        unfinished_row(machine, 7200),
    ]
    part = machine / "cache" / "models" / f".{'c' * 40}.x.part"
    part.mkdir()
    log = machine / "temporary" / f"raybench-{os.getuid()}" / "4194999"
    log.parent.mkdir()
    log.write_text("Loading\n")
    kept = [
        ray_session(machine, "alive", "alive"),
        ray_session(machine, "foreign"),
        cache_entry(machine, "d" * 40, __version__),
        unfinished_row(machine, 60),
        machine / "temporary" / "raybench-rescued-1",
    ]
    kept[-1].mkdir()
    rows = machine / "work" / "results" / "trials" / "run" / "a.parquet"
    rows.parent.mkdir(parents=True)
    rows.write_bytes(b"rows")
    removable += [part, log, lease_of_a_dead_driver(machine)]
    yield removable
    assert all(path.exists() for path in (*kept, rows))


def test_without_being_asked_nothing_is_removed(leftovers, capsys):
    assert main(["clean"]) == 0
    assert all(path.exists() for path in leftovers)
    shown = capsys.readouterr().out
    assert all(str(path) in shown for path in leftovers)
    assert "7 things, " in shown
    assert "To remove: raybench clean remove" in shown
    assert "its driver was killed" in shown
    assert "made by raybench 0.0.1" in shown
    assert "1 folder " in shown
    assert "raybench-rescued-*: rows that their results folder could not take" in shown


@pytest.mark.parametrize("word", ["remove", "--remove", "remove=true", "--yes"])
def test_what_is_shown_is_removed_and_then_nothing_is_left(leftovers, capsys, word):
    assert main(["clean", word]) == 0
    assert not any(path.exists() for path in leftovers)
    assert "Removed 7 things, " in capsys.readouterr().out
    assert main(["clean", word]) == 0
    assert "Nothing to remove." in capsys.readouterr().out


def test_programs_get_the_list_with_sizes_in_bytes(leftovers, capsys):
    assert main(["clean", "format=json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["where"] for one in found if one["what"] == "Ray session"] == [str(leftovers[0])]
    assert found[0]["size_bytes"] == 2048
    assert not any(one["removed"] for one in found)
    assert main(["clean", "remove", "format=csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert {row["removed"] for row in rows} == {"True"}
    assert main(["clean", "format=markdown"]) == 0
    assert capsys.readouterr().out.startswith("| what | where | size | why |\n")


def test_a_cache_entry_that_is_being_built_is_not_shown(machine, capsys):
    cache_entry(machine, "a" * 40, "0.0.1")
    (machine / "cache" / "models" / f".{'a' * 40}.x.part").mkdir()
    with FileLock(machine / "cache" / "models" / f".{'a' * 40}.lock"):
        assert main(["clean"]) == 0
        assert "Nothing to remove." in capsys.readouterr().out


def test_the_whole_cache_goes_only_when_it_is_named(machine, capsys):
    kept = cache_entry(machine, "d" * 40, __version__)
    assert main(["clean", "remove"]) == 0
    assert kept.exists()
    assert main(["clean", "remove", "cache=all"]) == 0
    assert not kept.exists()
    assert main(["clean", "cache=none"]) == 2
    assert "cache takes old or all" in capsys.readouterr().err


def test_entries_name_the_version_that_made_them(machine):
    cache = Cache(machine / "cache" / "models")
    cache.entry("e" * 40, lambda folder: {})
    assert cache.of_other_versions() == {}


def test_results_folders_are_named_or_refused(machine, capsys):
    assert main(["clean"]) == 0
    assert main(["clean", "missing"]) == 2
    assert "Results folder 'missing' does not exist." in capsys.readouterr().err
    assert main(["clean", "s3://bucket/results"]) == 0


def test_what_cannot_be_removed_is_named(machine, capsys, monkeypatch):
    folder = ray_session(machine, "dead", "dead")
    monkeypatch.setattr(clean.session_folders, "remove", lambda folder: False)
    assert main(["clean", "remove"]) == 1
    assert f"Could not be removed: {folder}" in capsys.readouterr().out


def test_nothing_of_ray_is_imported(machine):
    words = "import sys; from raybench.cli.main import main; main(['clean']); print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert done.stdout.endswith("False\n")


def test_worker_logs_go_with_their_processes(machine, monkeypatch):
    folder = machine / "temporary" / f"raybench-{os.getuid()}"
    folder.mkdir()
    (folder / "4194999").write_text("Loading\n")
    (folder / str(os.getpid())).write_text("Loading\n")
    crash_log.tidy()
    assert [path.name for path in folder.iterdir()] == [str(os.getpid())]
    (folder / str(os.getpid())).unlink()
    crash_log.tidy()
    assert not folder.exists()


@pytest.mark.parametrize(
    "words",
    [
        [""], ["cache="], ["--cache"], ["remove=maybe"], ["yes=1"], ["format=xml"], ["rows"], ["--all"],
        ["remove", "remove=false"], ["a=b"], ["\x1b[31m"], ["re\nmove"], ["/dev/null"], ["x" * 5000],
        ["\udcff"],
    ],
)  # fmt: skip
def test_other_words_are_refused_in_one_line(leftovers, capsys, words):
    assert main(["clean", *words]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "\x1b" not in error
    assert all(path.exists() for path in leftovers)


def test_what_may_not_be_removed_is_named_and_is_no_traceback(machine, monkeypatch, capsys):
    log = machine / "temporary" / f"raybench-{os.getuid()}" / "999999999"
    log.parent.mkdir()
    log.write_text("")

    def refuse(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    assert main(["clean", "remove"]) == 1
    assert f"Could not be removed: {log}" in " ".join(capsys.readouterr().out.split())

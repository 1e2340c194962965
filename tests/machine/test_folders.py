"""Folders that cannot be written, too long or full, and what takes their place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raybench import paths
from raybench.errors import ClusterError, ConfigError
from raybench.machine import checks, folders, room
from raybench.models import cache

NOT_WRITABLE = "/proc"
"""A folder in which not even root can make a file."""


@pytest.fixture(autouse=True)
def _plain_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders._cache.cache_clear()
    for name in ("RAYBENCH_CACHE", "RAY_TMPDIR", "TMPDIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_a_folder_can_be_used_that_exists_or_can_be_made(tmp_path: Path) -> None:
    assert paths.unusable(tmp_path) is None
    assert paths.unusable(tmp_path / "a" / "b") is None
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_used_comes_with_the_reason(tmp_path: Path) -> None:
    assert paths.unusable(f"{NOT_WRITABLE}/x") is not None
    (tmp_path / "file").write_text("")
    assert paths.unusable(tmp_path / "file" / "x") == "Not a directory"
    assert "MiB are free" in str(paths.unusable(tmp_path, 1 << 62))


def test_another_user_s_folder_or_a_link_is_not_private(tmp_path: Path) -> None:
    paths.make_private(tmp_path / "own")
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "own")
    with pytest.raises(OSError, match="link"):
        paths.make_private(tmp_path / "link")


# --- the cache ------------------------------------------------------------------------------------


def test_the_cache_is_where_its_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.cache_dir() == tmp_path / ".cache" / "raybench"
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "mine"))
    assert cache.cache_dir() == tmp_path / "mine"
    assert folders.cache().note is None


@pytest.mark.parametrize("variable", ["RAYBENCH_CACHE", "HOME"])
def test_a_cache_that_cannot_be_written_is_replaced_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, NOT_WRITABLE)
    spare = tmp_path / f"raybench-cache-{os.getuid()}"
    assert cache.cache_dir() == spare
    note = str(folders.cache().note)
    assert NOT_WRITABLE in note
    assert f"{spare} is used" in note
    assert "Set RAYBENCH_CACHE to a folder of this node that can be written." in note
    (issue,) = [i for i in checks.system_issues((), load=0.0, governors=()) if "Cache" in i.what]
    assert "RAYBENCH_CACHE" in issue.fix


def test_without_any_folder_for_the_cache_the_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE", NOT_WRITABLE)
    (tmp_path / f"raybench-cache-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"nor can any in its place\. Set RAYBENCH_CACHE"):
        cache.cache_dir()


# --- Ray's folder ---------------------------------------------------------------------------------


def test_ray_s_folder_is_where_its_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert folders.ray().path == Path("/tmp")
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert folders.ray().path == Path("/var/tmp")
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert folders.ray().path == Path("/tmp")
    assert folders.ray().note is None


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize(
    ("folder", "reason"),
    [("/tmp/" + 60 * "x", "bytes too long"), (NOT_WRITABLE, ""), ("/tmp/" + 30 * "é", "too long")],
)
def test_a_folder_that_ray_could_not_use_is_replaced(
    monkeypatch: pytest.MonkeyPatch, variable: str, folder: str, reason: str
) -> None:
    monkeypatch.setenv(variable, folder)
    chosen = folders.ray()
    assert chosen.path is not None
    assert str(chosen.path) in folders.SHORT_FOLDERS
    assert reason in str(chosen.reason)
    assert "Set RAY_TMPDIR" in str(chosen.note)


def test_the_longest_folder_for_ray_still_has_room_for_a_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    least = len(f"/{folders.SOCKET}")
    longest = "/tmp/" + "x" * (folders.LONGEST_SOCKET - least - len("/tmp/"))
    assert folders._no_folder_for_ray(longest) is None
    assert "1 bytes too long" in str(folders._no_folder_for_ray(longest + "x"))


def test_without_a_folder_for_ray_the_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from raybench.cluster import local

    monkeypatch.setattr(folders, "unusable", lambda *_: "Read-only file system")
    with pytest.raises(ClusterError, match="Read-only file system"):
        local.check_room({"cpu": 1})


# --- threads and files ----------------------------------------------------------------------------


def test_too_few_threads_for_ray_are_refused_and_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from raybench.cluster import local

    monkeypatch.setattr(room, "threads_left", lambda: 130)
    local.check_room({"cpu": 1, "gpu/H100": 8})
    with pytest.raises(ClusterError, match=r"160 more threads and 130 are left\. Allow more"):
        local.check_room({"cpu": 1, "gpu": 1})
    warnings = [issue.what for issue in checks.start_issues(2)]
    assert any("130 are left" in warning for warning in warnings)


def test_few_files_and_little_shared_memory_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "files_allowed", lambda: 64)
    monkeypatch.setattr(room, "shared_memory_bytes", lambda: 64 << 20)
    warnings = " ".join(issue.what for issue in checks.start_issues(1))
    assert "only 64 files" in warnings
    assert "/dev/shm has 64 MiB" in warnings
    monkeypatch.setattr(room, "files_allowed", lambda: None)
    monkeypatch.setattr(room, "shared_memory_bytes", lambda: None)
    assert not [i for i in checks.start_issues(1) if "files" in i.what or "shm" in i.what]


# --- figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["HOME", "MPLCONFIGDIR"])
def test_figures_are_drawn_without_a_word_where_matplotlib_has_no_folder(variable: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import raybench.report.figures.style"],
        env={**os.environ, variable: NOT_WRITABLE}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""

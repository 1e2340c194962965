"""Folders of Ray's sessions: ours are removed when their driver has ended, others are never touched."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import ray

from raybench.cluster import local, ray_internals, session_folders
from raybench.cluster.session_folders import SessionFolder
from raybench.errors import ClusterError
from raybench.execute import run

DRIVER = """
import sys, time
from pathlib import Path
from raybench.cluster.session_folders import SessionFolder
folder = SessionFolder()
folder.mark(Path(sys.argv[1]))
print("marked", flush=True)
time.sleep(600)
"""
RAY_PROGRAM = """
import sys, time
log = open(sys.argv[1], "w")
print("writes", flush=True)
time.sleep(600)
"""


@pytest.fixture
def parent(tmp_path, monkeypatch):
    """Return the only folder in which sessions of Ray are searched."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    folder = tmp_path / "ray"
    monkeypatch.setattr(session_folders, "ray_folders", lambda: [folder])
    return folder


def session(parent, name):
    """Make the folder of a session as Ray does, with a log."""
    folder = parent / f"session_{name}"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "raylet.out").write_text("text")
    return folder


@pytest.fixture
def driver(parent):
    """Start another process that has marked the folder of its session; yield both."""
    folder = session(parent, "2026-11-28_20-00-00_000000_77")
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "marked\n"
        yield process, folder
        process.kill()


def test_a_session_is_removed_at_its_end_with_the_links_that_lead_into_it(parent):
    folder = session(parent, "a")
    other = session(parent, "b")
    (parent / "session_latest").symlink_to(folder)
    (parent / "prom.json").symlink_to(folder / "prom.json")
    (parent / "other").symlink_to(other)
    with SessionFolder() as own:
        own.mark(folder)
        own.mark(other)  # Ray makes one folder, and raybench marks no second one
    assert sorted(path.name for path in parent.iterdir()) == ["other", "session_b"]


def test_the_folder_of_all_sessions_goes_with_the_last(parent):
    with SessionFolder() as own:
        own.mark(session(parent, "a"))
    assert not parent.exists()


def test_a_session_that_never_began_leaves_nothing_to_remove(parent):
    with SessionFolder():
        pass
    assert session_folders.abandoned() == []


def test_a_process_that_leaves_at_once_removes_the_folder_of_its_session(parent):
    session_folders.remove_current()
    folder = session(parent, "a")
    with SessionFolder() as own:
        own.mark(folder)
        session_folders.remove_current()
        assert not folder.exists()
    session_folders.remove_current()


def test_the_session_of_a_living_driver_is_left_alone(driver):
    _, folder = driver
    session_folders.remove_abandoned()
    assert (folder / "logs" / "raylet.out").exists()


def test_a_run_with_nothing_to_measure_removes_what_a_killed_driver_left(driver):
    process, folder = driver
    process.kill()
    process.wait()
    cluster = SimpleNamespace(session=None)
    run._connect(SimpleNamespace(cluster=cluster, request=None, missing=[]), ExitStack())
    assert not folder.exists()


def test_the_session_of_a_killed_driver_is_removed_by_the_next_run(driver):
    process, folder = driver
    process.kill()
    process.wait()
    with pytest.MonkeyPatch.context() as another_user:
        another_user.setattr("os.getuid", lambda: os.geteuid() + 1)
        assert session_folders.abandoned() == []
    assert session_folders.abandoned() == [folder]
    session_folders.remove_abandoned()
    assert not folder.exists()


def test_a_session_of_another_program_is_never_taken_for_an_abandoned_one(parent):
    folder = session(parent, "2026-11-28_20-00-00_000000_77")
    (parent / "session_latest").symlink_to(folder)
    session_folders.remove_abandoned()
    assert (folder / "logs" / "raylet.out").exists()
    assert (parent / "session_latest").exists()


@pytest.mark.parametrize("how", ["names the folder", "writes into it", "is of another session"])
def test_the_last_processes_of_an_abandoned_session_end_with_it(driver, tmp_path, how):
    process, folder = driver
    process.kill()
    process.wait()
    program = tmp_path / "site" / "ray" / "dashboard" / "agent.py"
    program.parent.mkdir(parents=True)
    program.write_text(textwrap.dedent(RAY_PROGRAM))
    elsewhere = tmp_path / "elsewhere.log"
    log = folder / "logs" / "agent.log" if how == "writes into it" else elsewhere
    words = [f"--session-dir={folder}"] if how == "names the folder" else []
    with subprocess.Popen(
        [sys.executable, str(program), str(log), *words], stdout=subprocess.PIPE
    ) as agent:
        agent.stdout.readline()
        if how == "writes into it":  # Ray's agents hide the path of their program behind a title
            assert [each.pid for each in session_folders.processes(folder)] == [agent.pid]
        session_folders.remove_abandoned()
        if how == "is of another session":
            assert agent.poll() is None
            agent.kill()
        else:
            assert agent.wait(300) == -9
    assert not folder.exists()


def test_who_reads_the_logs_of_an_abandoned_session_is_not_ended(driver):
    process, folder = driver
    process.kill()
    process.wait()
    log = str(folder / "logs" / "raylet.out")
    with subprocess.Popen(["tail", "-f", log], stdout=subprocess.PIPE) as reader:
        reader.stdout.read(1)
        session_folders.remove_abandoned()
        assert reader.poll() is None
        reader.kill()


def test_after_a_failed_start_the_logs_stay_and_are_named(parent, monkeypatch):
    folder = session(parent, "a")

    def fail(**options):
        own.mark(folder)
        raise RuntimeError("The node died.\n  See its log.")

    monkeypatch.setattr(ray_internals, "init", fail)
    with SessionFolder() as own, pytest.raises(ClusterError) as caught:
        local.start({"cpu": 1, "gpu": 0}, False, "raybench", lambda: None, own)
    assert str(caught.value) == (
        f"Ray could not be started here: The node died. See its log. Ray's logs are in "
        f"{folder}/logs until the next run."
    )
    assert session_folders.abandoned() == [folder]


def test_sessions_are_searched_where_ray_makes_them(monkeypatch):
    from ray._common.utils import get_default_ray_temp_dir

    for variables in ({}, {"TMPDIR": "/var/tmp"}, {"TMPDIR": "/var/tmp", "RAY_TMPDIR": "/x"}):
        for name in ("TMPDIR", "RAY_TMPDIR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert str(session_folders.ray_folders()[0]) == get_default_ray_temp_dir()


def test_the_folder_is_marked_as_soon_as_ray_has_made_it(parent, monkeypatch):
    from ray._private.node import Node

    def make(node):
        node._session_dir = str(parent / "session_a")

    monkeypatch.setattr(Node, "_init_temp", make)
    seen = []
    with ray_internals.on_session_folder(seen.append):
        Node._init_temp(SimpleNamespace())
    assert seen == [parent / "session_a"]
    Node._init_temp(SimpleNamespace())
    assert len(seen) == 1


def test_without_rays_method_the_context_names_the_folder(parent, monkeypatch):
    from ray._private.node import Node

    monkeypatch.delattr(Node, "_init_temp")
    folder = session(parent, "a")
    context = SimpleNamespace(address_info={"session_dir": str(folder)})
    monkeypatch.setattr(ray_internals, "init", lambda **options: context)
    with SessionFolder() as own:
        local.start({"cpu": 1, "gpu": 0}, False, "raybench", lambda: None, own)
        assert own.path == folder
    assert not folder.exists()


@pytest.mark.ray
def test_the_session_of_these_tests_is_marked(cluster):
    folder = ray.get_runtime_context().get_session_name()
    marks = [parent / folder / session_folders.MARK for parent in session_folders.ray_folders()]
    assert any(mark.exists() for mark in marks)
    assert os.getpid() in [int(folder.rpartition("_")[2])]


def test_who_is_ended_while_removing_leaves_a_folder_that_is_still_marked(parent, monkeypatch):
    folder = session(parent, "2026-11-28_20-00-00_000000_77")
    own = SessionFolder()
    own.mark(folder)
    own._lock.close()
    removed, remove = [], session_folders.shutil.rmtree

    def ended_here(path, **options):
        removed.append(path.name)
        if len(removed) == 2:
            raise KeyboardInterrupt
        remove(path, **options)

    monkeypatch.setattr(session_folders.shutil, "rmtree", ended_here)
    with pytest.raises(KeyboardInterrupt):
        session_folders.remove(folder)
    assert removed == ["logs", folder.name]
    assert session_folders.abandoned() == [folder]


def test_a_link_into_a_folder_that_could_not_be_removed_stays(parent, monkeypatch):
    folder = session(parent, "2026-11-28_20-00-00_000000_77")
    link = parent / "session_latest"
    link.symlink_to(folder)
    monkeypatch.setattr(session_folders, "REMOVAL_S", 0.0)
    monkeypatch.setattr(session_folders.shutil, "rmtree", lambda path, **options: None)
    assert not session_folders.remove(folder)
    assert link.is_symlink()


@pytest.mark.parametrize(("started", "removals"), [(True, 1), (False, 2)])
def test_a_start_that_was_cut_short_is_tidied_again(parent, monkeypatch, started, removals):
    removed = []
    monkeypatch.setattr(session_folders, "LATE_S", 0.0)
    monkeypatch.setattr(session_folders, "remove", removed.append)
    with SessionFolder() as folder:
        folder.mark(session(parent, "2026-11-28_20-00-00_000000_77"))
        folder.started = started
    assert removed == [folder.path] * removals

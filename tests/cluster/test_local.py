import contextlib
import os
import subprocess
import sys
import threading

import psutil
import pytest

from raybench.cluster import local
from raybench.cluster.session_folders import SessionFolder
from raybench.errors import ClusterError


def test_only_rays_autoscaler_is_ended_before_ray_itself(tmp_path):
    monitor = tmp_path / "ray" / "autoscaler" / "_private" / "monitor.py"
    monitor.parent.mkdir(parents=True)
    monitor.write_text("import time; time.sleep(600)")
    other = tmp_path / "monitor.py"
    other.write_text(monitor.read_text())
    both = [subprocess.Popen([sys.executable, str(script)]) for script in (monitor, other)]
    try:
        local.end_autoscaler()
        assert both[0].wait(300) == -9
        assert both[1].poll() is None
    finally:
        for child in both:
            with contextlib.suppress(OSError):
                child.kill()
            child.wait()


def test_ray_is_not_started_where_it_would_listen_on_the_network(monkeypatch):
    monkeypatch.setattr(local.ray_internals, "init", None)
    monkeypatch.setattr(
        local.ray_internals, "on_loopback", lambda: contextlib.nullcontext(enter_result=False)
    )
    with pytest.raises(ClusterError, match=r"listen on the network\. Set RAY_ENABLE.*=0 before"):
        local.start({"cpu": 1, "gpu": 0}, False, "raybench", lambda: None, SessionFolder())


def test_work_during_rays_start_is_done_even_if_ray_has_started():
    started, done = threading.Event(), []
    started.set()
    local._run_once_node_starts(started, lambda: done.append(1))
    assert done == [1]


def test_work_during_rays_start_begins_with_its_node(tmp_path):
    node = tmp_path / "raylet" / "raylet"
    node.parent.mkdir()
    node.write_text("import time; time.sleep(600)")
    begun = threading.Event()
    with subprocess.Popen([sys.executable, str(node)]) as child:
        local._run_once_node_starts(threading.Event(), begun.set)
        child.kill()
    assert begun.is_set()


@pytest.mark.ray
def test_without_a_dashboard_ray_runs_none_of_the_processes_that_serve_it(cluster):
    commands = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            commands.append(" ".join(process.cmdline()))
    assert any("/gcs_server" in command for command in commands)
    for script in ("/dashboard.py", "/monitor.py", "/log_monitor.py"):
        assert not [command for command in commands if script in command]


def test_without_a_home_folder_ray_gets_a_token_for_this_cluster(monkeypatch):
    monkeypatch.setattr(local.ray_internals, "has_token", lambda: False)
    for name in ("RAY_AUTH_TOKEN", "RAY_TMPDIR", "TMPDIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/proc")
    local.name_folders()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert "RAY_TMPDIR" not in os.environ
    monkeypatch.setenv("TMPDIR", "/tmp/" + 90 * "x")
    local.name_folders()
    assert os.environ["RAY_TMPDIR"] in ("/tmp", "/var/tmp", "/dev/shm")

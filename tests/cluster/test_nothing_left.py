"""What runs leave in the file system: rows, the cache, and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

WORDS = (
    "experiment=smoke", "engine=simulated", "model=alexnet", "batch_size=1", "workers=1",
    "preset=quick", "measure.look_s=0.25", "measure.block_s=0.05", "measure.warmup_min_s=0.1",
    "rerun=all", "cluster.retries=0",
)  # fmt: skip
SHORT = ("measure.min_s=0.5", "measure.max_s=1")
LONG = ("measure.min_s=60", "measure.max_s=90")
KEPT = ("results", "cache")


class User:
    """A user with a home, a folder for temporary files and a working directory of their own."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("home", "tmp", "work", *KEPT):
            (folder / name).mkdir()
        usual = {n: v for n, v in os.environ.items() if not n.startswith(("RAY_", "TMPDIR"))}
        self.environment = usual | {
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "RAYBENCH_CACHE": str(folder / "cache"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }

    def start(self, *words):
        return subprocess.Popen(
            [sys.executable, "-m", "raybench", *words],
            env=self.environment,
            cwd=self.folder / "work",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words):
        return self.start(*WORDS, *words, f"results.dir={self.folder}/results")

    def ended(self, process, code):
        output, _ = process.communicate(timeout=120)
        assert process.returncode == code, output

    def files(self):
        """Return every path outside of results and cache."""
        paths = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}
        return {path for path in paths if path.split("/")[0] not in KEPT}

    def processes(self):
        """Return the processes of Ray that still have a file of this user open."""
        return [p.pid for p in psutil.process_iter() if _opens(p, self.folder / "tmp")]


def _opens(process, folder):
    try:
        return any(folder in Path(file.path).parents for file in process.open_files())
    except psutil.Error:
        return False


@pytest.fixture
def user():
    folder = Path(tempfile.mkdtemp(prefix="rb"))  # short, for Ray's sockets
    yield User(folder)
    shutil.rmtree(folder)


def until_it_measures(process):
    for line in process.stdout:
        if line.endswith(" ...\n"):
            return
    raise AssertionError("The run measured nothing.")


@pytest.mark.ray
@pytest.mark.slow
def test_only_results_and_cache_grow(user):
    user.ended(user.run(*SHORT), 0)
    before = user.files()
    assert not [path for path in before if path.startswith("tmp/")]
    user.ended(user.run(*SHORT), 0)
    assert user.files() == before

    interrupted = user.run(*LONG)
    until_it_measures(interrupted)
    interrupted.send_signal(signal.SIGINT)
    user.ended(interrupted, 130)
    assert user.files() == before

    killed = user.run(*LONG)
    until_it_measures(killed)
    killed.kill()
    user.ended(killed, -signal.SIGKILL)
    assert any("session_" in path for path in user.files())
    user.ended(user.start("clean", "remove"), 0)
    assert user.files() == before
    assert user.processes() == []

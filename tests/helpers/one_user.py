"""A user with folders of their own, to see what runs of the command leave there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

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
        output, _ = process.communicate(timeout=1200)
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

"""Boards whose power is limited: a driver that is a file, and processes that limit its boards."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

HELPERS = Path(__file__).parent
UUID = "GPU-0"


class Driver:
    """The driver of the fake, and the workers that limit its boards."""

    def __init__(self, folder, monkeypatch, uuids=(UUID, "GPU-1")):
        self.file, self.locks = folder / "driver.json", str(folder / "locks")
        self.workers = []
        self.set(limits=dict.fromkeys(uuids, 700_000), span=[200_000, 700_000], cap=700_000,
                 refuses="", mig=False, log=[])  # fmt: skip
        root = str(HELPERS.parents[1])
        monkeypatch.setenv("FAKE_DRIVER", str(self.file))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HELPERS / "fake_driver"), root]))

    @property
    def state(self):
        with self.file.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # a process that changes it truncates it first
            return json.load(file)

    def set(self, **facts):
        known = self.state if self.file.exists() else {}
        self.file.write_text(json.dumps({**known, **facts}))

    @property
    def watts(self):
        """Limit of the first board."""
        return next(iter(self.state["limits"].values())) / 1e3

    def worker(self, watts, place="first", uuid=UUID):
        """Start a worker that limits a board."""
        words = [HELPERS / "power_worker.py", self.locks, uuid, str(watts), place]
        process = subprocess.Popen([sys.executable, *map(str, words)], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True, start_new_session=True)  # fmt: skip
        self.workers.append(process)
        return process

    def guards(self):
        """Return the guards of this driver's boards."""
        return self.processes(lambda words: "raybench.machine.power_guard" in words)

    def processes(self, chosen):
        """Return the processes of this driver whose words on the command line are chosen."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if chosen(process.info["cmdline"] or []):
                with contextlib.suppress(psutil.Error):  # it has just ended, or is another user's
                    own = process.environ().get("FAKE_DRIVER") == str(self.file)
                    found += [process] * own
        return found

    def restored(self):
        """Wait until the guards have ended, and return the limit."""
        deadline = time.monotonic() + 30
        while self.guards() and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.watts

    def close(self):
        for process in self.workers:
            process.kill()
            process.communicate()
        for guard in self.guards():
            guard.kill()

"""What runs leave in the file system: rows, the cache, and nothing else."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from helpers.one_user import LONG, SHORT, User


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

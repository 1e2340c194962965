"""CUDA's Multi-Process Service, found by its pipe and its processes."""

from __future__ import annotations

import pytest

from raybench.machine import mps


@pytest.mark.parametrize(
    ("pipe", "processes", "found"),
    [
        (False, [], False),
        (False, [mps.CONTROL], False),
        (True, ["python", "nvidia-cuda-mps-control"], True),
        (True, ["python", "nvidia-cuda-mps"], True),
        (True, ["python"], None),
    ],
)
def test_it_is_on_where_its_pipe_and_its_daemon_are(tmp_path, monkeypatch, pipe, processes, found):
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    if pipe:
        (tmp_path / "control").touch()
    monkeypatch.setattr(mps, "_names", lambda: list(enumerate(processes)))
    assert mps.is_on() is found


def test_its_servers_are_known_by_name(monkeypatch):
    names = [(1, "python"), (7, "nvidia-cuda-mps-server"), (8, "nvidia-smi")]
    monkeypatch.setattr(mps, "_names", lambda: names)
    assert mps.servers() == {7}

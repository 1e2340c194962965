"""What a session leaves behind in the process when it ends; Ray itself is replaced."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import ray

from raybench.cluster import actor
from raybench.cluster import session as sessions

POINT = SimpleNamespace(model="net.onnx", model_identity="a")


@pytest.fixture
def without_ray(monkeypatch):
    """Replace Ray's start and end, so that a session starts no processes."""
    context = SimpleNamespace(dashboard_url=None)
    monkeypatch.setattr(sessions.ray_internals, "init", lambda **options: context)
    monkeypatch.setattr(sessions, "alive_nodes", tuple)
    monkeypatch.setattr(sessions, "responding_nodes", tuple)
    monkeypatch.setattr(sessions.local, "end_autoscaler", lambda: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)


def connect_here(dashboard=False):
    return sessions.connect(None, {"cpu": 1, "gpu": 0}, dashboard)


def test_a_model_is_put_once_into_each_cluster_even_if_their_jobs_have_the_same_id(
    without_ray, monkeypatch
):
    puts = []
    runtime = SimpleNamespace(get_job_id=lambda: "01", runtime_env={"py_modules": ["raybench"]})
    monkeypatch.setattr(ray, "get_runtime_context", lambda: runtime)
    monkeypatch.setattr(ray, "put", lambda bundle: puts.append(bundle) or len(puts))
    monkeypatch.setattr(actor.file_transfer, "bundle_model", lambda name: f"files of {name}")
    for reference in (1, 2):
        with connect_here():
            assert actor.model_files(POINT) == actor.model_files(POINT) == [reference]
    assert puts == ["files of net.onnx"] * 2

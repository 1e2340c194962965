"""What a session leaves behind in the process when it ends; Ray itself is replaced."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
import ray

from raybench.cluster import actor
from raybench.cluster import session as sessions
from raybench.errors import ClusterError

POINT = SimpleNamespace(
    model="net.onnx",
    model_identity="a",
    model_settings=SimpleNamespace(inputs="items.npz"),
    inputs=SimpleNamespace(sha256="b"),
)


@pytest.fixture
def without_ray(monkeypatch, tmp_path):
    """Replace Ray's start and end, so that a session starts no processes."""
    folder = tmp_path / "ray" / "session_a"
    folder.mkdir(parents=True)
    context = SimpleNamespace(dashboard_url=None, address_info={"session_dir": str(folder)})
    monkeypatch.setattr(sessions.ray_internals, "init", lambda **options: context)
    monkeypatch.setattr(sessions, "alive_nodes", tuple)
    monkeypatch.setattr(sessions, "responding_nodes", tuple)
    monkeypatch.setattr(sessions.local, "end_autoscaler", lambda: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)


@pytest.fixture
def variables():
    """Return a function that lists Ray's variables; it has none but those that the user set.

    Afterwards Ray is in the token mode of before, which the cluster of the other tests needs.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("RAY_IGNORE_UNHANDLED_ERRORS", "0")
        yield lambda: {n: value for n, value in os.environ.items() if n.startswith("RAY_")}
    sessions.ray_internals.reload_auth_mode()


def connect_here(dashboard=False):
    return sessions.connect(None, {"cpu": 1, "gpu": 0}, dashboard)


def test_files_are_put_once_into_each_cluster_even_if_their_jobs_have_the_same_id(
    without_ray, monkeypatch
):
    puts = []
    runtime = SimpleNamespace(get_job_id=lambda: "01", runtime_env={"py_modules": ["raybench"]})
    monkeypatch.setattr(ray, "get_runtime_context", lambda: runtime)
    monkeypatch.setattr(ray, "put", lambda bundle: puts.append(bundle) or len(puts))
    monkeypatch.setattr(actor.file_transfer, "bundle_model", lambda name: f"files of {name}")
    monkeypatch.setattr(actor.file_transfer, "bundle_inputs", lambda path: f"files of {path}")
    for first in (1, 3):
        with connect_here():
            for _ in range(2):
                assert actor.point_files(POINT) == {"model": first, "inputs": first + 1}
    assert puts == ["files of net.onnx", "files of items.npz"] * 2


def test_inputs_that_are_too_large_to_send_must_be_on_every_node(
    without_ray, monkeypatch, tmp_path
):
    runtime = SimpleNamespace(get_job_id=lambda: "01", runtime_env={"py_modules": ["raybench"]})
    monkeypatch.setattr(ray, "get_runtime_context", lambda: runtime)
    monkeypatch.setattr(ray, "put", lambda bundle: "reference")
    monkeypatch.setattr(actor.file_transfer, "bundle_model", lambda name: "files")
    monkeypatch.setattr(actor.file_transfer, "LARGEST_INPUTS_BYTES", 10)
    np.save(tmp_path / "items.npy", np.zeros(4))
    settings = SimpleNamespace(inputs=str(tmp_path / "items.npy"))
    with connect_here():
        point = SimpleNamespace(**{**vars(POINT), "model_settings": settings})
        assert actor.point_files(point) == {"model": "reference"}


def test_a_started_cluster_leaves_no_variables_to_the_next_one(without_ray, variables):
    before = variables()
    with connect_here():
        assert variables()["RAY_enable_metrics_collection"] == "0"
    assert variables() == before
    with connect_here(dashboard=True):
        assert "RAY_enable_metrics_collection" not in os.environ
        assert os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] == "0"
        del os.environ["RAY_IGNORE_UNHANDLED_ERRORS"]
    assert variables() == before


@pytest.mark.parametrize("fails", [False, True])
def test_a_token_that_one_cluster_asked_for_is_not_sent_to_the_next_one(
    without_ray, variables, monkeypatch, fails
):
    from ray._raylet import get_authentication_mode

    def check(address):
        os.environ["RAY_AUTH_MODE"] = "token"
        sessions.ray_internals.reload_auth_mode()
        if fails:
            raise ClusterError("wrong token")
        return SimpleNamespace(head=address, own=None)

    sessions.ray_internals.reload_auth_mode()
    before = variables(), get_authentication_mode()
    monkeypatch.setattr(sessions.preflight, "check", check)
    try:
        with sessions.connect("10.0.0.1:6379", {}, False):
            assert get_authentication_mode() != before[1]
    except ClusterError:
        assert fails
    assert (variables(), get_authentication_mode()) == before

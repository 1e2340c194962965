import os
import platform
import socket
import subprocess
import sys

import pytest
import ray
from helpers.fake_head import Head, serving

from raybench.cluster import preflight
from raybench.errors import ClusterError

OURS = {"ray_version": ray.__version__, "python_version": platform.python_version()}


@pytest.fixture
def here(tmp_path):
    """A node on this machine whose socket exists."""
    path = tmp_path / "raylet"
    path.touch()
    return {
        "node_manager_address": "127.0.0.1",
        "raylet_socket_name": str(path),
        "node_manager_hostname": "this-one",
    }


def refusal(address):
    """Return the message of a refusal, which must be one line."""
    with pytest.raises(ClusterError) as caught:
        preflight.check(address)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://10.0.0.1:10001", "Ray Client address.*ray job submit"),
        ("http://10.0.0.1:8265", "is the address of a dashboard"),
        ("head-node", "is not host:port"),
        ("10.0.0.1:six", "is not host:port"),
    ],
)
def test_an_address_that_cannot_be_a_head_is_refused_with_the_reason(address, message):
    with pytest.raises(ClusterError, match=message):
        preflight.check(address)


def test_a_port_where_nothing_listens_is_named_in_the_refusal(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        assert f"Nothing answers at cluster.address='{address}'" in refusal(address)
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert "Nothing answers" in refusal("auto")


def test_a_service_that_is_no_head_node_is_refused_as_such():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert "is no Ray head node" in refusal(f"127.0.0.1:{silent.getsockname()[1]}")


def test_another_ray_or_python_is_refused_with_both_versions(here):
    with serving(Head({**OURS, "ray_version": "1.2.3"}, [here])) as address:
        assert f"runs Ray 1.2.3 and this process {ray.__version__}" in refusal(address)
    with serving(Head({**OURS, "python_version": "3.9.1"}, [here])) as address:
        assert "runs Python 3.9.1" in refusal(address)


def test_a_machine_that_is_no_node_is_refused_with_how_to_become_one(here, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # a cluster of this session may have set it
    elsewhere = {**here, "node_manager_address": "192.0.2.1", "node_manager_hostname": "far"}
    with serving(Head(OURS, [elsewhere])) as address:
        assert f"(far). Make it one with ray start --address={address}" in refusal(address)
    hidden = {**here, "raylet_socket_name": "/nowhere"}
    with serving(Head(OURS, [hidden])) as address:
        assert "another container" in refusal(address)


def test_a_cluster_is_joined_through_the_node_of_this_machine(here):
    dead = {**here, "node_manager_address": "192.0.2.1", "state": 1}
    with serving(Head(OURS, [dead, here])) as address:
        assert preflight.check(address) == preflight.ClusterAddress(address, "127.0.0.1")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "asks for a token, and this user has none"),
        ({"RAY_AUTH_TOKEN": "wrong"}, "does not accept the token from RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "right"}, "sends none"),
        ({"RAY_AUTH_TOKEN": "right"}, "with RAY_AUTH_MODE=token ray start"),  # past the token
    ],
)
def test_a_missing_or_wrong_token_ends_the_command_with_one_line(variables, message, tmp_path):
    usual = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    with serving(Head(OURS, [], token="right")) as address:
        done = subprocess.run(
            [sys.executable, "-m", "raybench", "plan", "experiment=smoke", f"cluster.address={address}"],
            env={**usual, "HOME": str(tmp_path), **variables}, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_setting_decides_where_ray_runs_and_else_the_environment(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert preflight.requested_address(None) is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert preflight.requested_address(None) == "10.0.0.1:6379"
    assert preflight.requested_address("local") is None
    assert preflight.requested_address("auto") == "auto"


def test_where_rays_service_cannot_be_asked_the_cluster_is_joined_unasked(here, monkeypatch):
    monkeypatch.setattr(preflight.ray_internals, "head_node", lambda address, timeout_s: None)
    with serving(Head({**OURS, "ray_version": "1.2.3"}, [here])) as address:
        assert preflight.check(address) == preflight.ClusterAddress(address, None)


def test_where_rays_search_is_missing_ray_resolves_the_address(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(preflight.ray_internals, "running_cluster", lambda: None)
    assert preflight.check("auto") == preflight.ClusterAddress("auto", None)


def test_where_ray_cannot_reread_its_token_mode_the_user_has_to_set_it(here, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    monkeypatch.setenv("RAY_AUTH_MODE", "")  # restored at the end
    monkeypatch.setattr(preflight.ray_internals, "has_token", lambda: True)
    monkeypatch.setattr(preflight.ray_internals, "reload_auth_mode", lambda: False)
    with serving(Head(OURS, [here], token="right")) as address:
        assert "Set RAY_AUTH_MODE=token before this command starts" in refusal(address)

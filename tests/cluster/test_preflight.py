import os
import platform
import socket
import subprocess
import sys
import time

import pytest
import ray
from fake_head import Head, running

from raybench.cluster import preflight
from raybench.errors import ClusterError

OURS = {"ray_version": ray.__version__, "python_version": platform.python_version()}


@pytest.fixture
def here(tmp_path):
    """A node on this machine whose socket can be seen."""
    path = tmp_path / "raylet"
    path.touch()
    return {
        "node_manager_address": "127.0.0.1",
        "raylet_socket_name": str(path),
        "node_manager_hostname": "this-one",
    }


def refusal(address):
    """The sentence, which must come within 5 s."""
    began = time.monotonic()
    with pytest.raises(ClusterError) as caught:
        preflight.check(address)
    assert time.monotonic() - began < 5
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://10.0.0.1:10001", "Ray Client address.*ray job submit"),
        ("http://10.0.0.1:8265", "is the address of a dashboard"),
        ("head-node", "is not host:port"),
        ("10.0.0.1:six", "is not host:port"),
    ],
)
def test_an_address_that_cannot_be_a_head_is_refused_with_the_reason(address, words):
    with pytest.raises(ClusterError, match=words):
        preflight.check(address)


def test_a_port_where_nothing_listens_is_named(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        assert f"Nothing answers at cluster.address='{address}'" in refusal(address)
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert "Nothing answers" in refusal("auto")


def test_what_takes_the_call_and_is_no_head_is_told_apart():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert "is no Ray head node" in refusal(f"127.0.0.1:{silent.getsockname()[1]}")


def test_another_ray_or_python_is_refused_with_both_versions(here):
    with running(Head({**OURS, "ray_version": "1.2.3"}, [here])) as address:
        assert f"runs Ray 1.2.3 and this process {ray.__version__}" in refusal(address)
    with running(Head({**OURS, "python_version": "3.9.1"}, [here])) as address:
        assert "runs Python 3.9.1" in refusal(address)


def test_a_machine_that_is_no_node_is_told_how_to_become_one(here):
    elsewhere = {**here, "node_manager_address": "192.0.2.1", "node_manager_hostname": "far"}
    with running(Head(OURS, [elsewhere])) as address:
        assert f"(far). Make it one with ray start --address={address}" in refusal(address)
    hidden = {**here, "raylet_socket_name": "/nowhere"}
    with running(Head(OURS, [hidden])) as address:
        assert "another container" in refusal(address)


def test_the_gate_is_the_node_of_this_machine(here):
    dead = {**here, "node_manager_address": "192.0.2.1", "state": 1}
    with running(Head(OURS, [dead, here])) as address:
        assert preflight.check(address) == preflight.ClusterAddress(address, "127.0.0.1")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "asks for a token, and this user has none"),
        ({"RAY_AUTH_TOKEN": "wrong"}, "does not accept the token from RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "right"}, "sends none"),
        ({"RAY_AUTH_TOKEN": "right"}, "is no node of the cluster"),  # past the token
    ],
)
def test_the_command_ends_with_one_line_over_a_token(variables, words, tmp_path):
    usual = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    with running(Head(OURS, [], token="right")) as address:
        done = subprocess.run(
            [sys.executable, "-m", "raybench", "plan", "experiment=smoke", f"cluster.address={address}"],
            env={**usual, "HOME": str(tmp_path), **variables}, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_who_decides_between_here_and_a_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert preflight.requested_address(None) is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert preflight.requested_address(None) == "10.0.0.1:6379"
    assert preflight.requested_address("local") is None
    assert preflight.requested_address("auto") == "auto"

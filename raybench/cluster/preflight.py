"""Asks a cluster's head node whether this process can join, before Ray tries to.

With a wrong address, token or version Ray itself takes 20 to 60 s, prints pages, hides the reason
and may exit the process. The head node's gRPC service answers the same questions in milliseconds,
so that every refusal here is quick and one sentence.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from raybench.cluster import ray_internals
from raybench.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_S = 2.0
"""Deadline of one question; a whole preflight asks three."""
GET_TOKEN = "Run ray get-auth-token on the head node and set RAY_AUTH_TOKEN here."

T = TypeVar("T")


@dataclass(frozen=True)
class ClusterAddress:
    """Where a cluster can be joined.

    Attributes:
        head: host:port of the head node; "auto" lets Ray find it.
        own: this machine's address in the cluster; None lets Ray find it.
    """

    head: str
    own: str | None


def requested_address(address: str | None) -> str | None:
    """Return the address of the requested cluster; None when Ray is to start on this machine.

    Args:
        address: the setting: None defers to RAY_ADDRESS, "local" starts Ray here, "auto" is any
            running cluster, "host:port" the one there.
    """
    if address is None:
        address = os.environ.get("RAY_ADDRESS") or "local"
    return None if address == "local" else address


def check(address: str) -> ClusterAddress:
    """Check that the cluster can be joined from this process and return where.

    Enables token authentication for this process when the head asks for a token that may be sent.

    Raises:
        ClusterError: with the reason and the way out, within about 2 s.
    """
    address = _head_address(address)
    if address == "auto":
        return ClusterAddress(address, None)
    host, port = _host_and_port(address)
    _check_listening(address, host, port)
    head = _head_node(address)
    if head is None:
        return ClusterAddress(address, None)
    try:
        _answer(address, head.cluster_id)
    except _TokenRequired:
        _enable_token(address, host)
        head = _head_node(address) or head
    try:
        _check_versions(address, _answer(address, head.metadata))
        nodes = _answer(address, head.nodes)
    except _TokenRequired:
        raise ClusterError(_wrong_token(address)) from None
    return ClusterAddress(address, _own_address(address, nodes))


def _head_address(address: str) -> str:
    """Refuse what is no head node's address; resolve "auto", or return it for Ray to resolve."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    if address == "auto":
        try:
            address = ray_internals.running_cluster() or "auto"
        except ConnectionError as error:
            raise ClusterError(
                "cluster.address=auto found no running Ray cluster on this machine. "
                "Start one with ray start --head, or give cluster.address=host:port."
            ) from error
    if address.startswith("ray://"):
        raise ClusterError(
            f"cluster.address={address!r} is a Ray Client address, whose calls take a detour that "
            "would spoil the timing. Use host:port of the head node (port 6379 by default) on a "
            "node of the cluster, or run this command through ray job submit."
        )
    if "://" in address:
        raise ClusterError(
            f"cluster.address={address!r} is the address of a dashboard. Use host:port of the head "
            "node (port 6379 by default), or run this command through ray job submit."
        )
    return address


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ClusterError(
            f"cluster.address={address!r} is not host:port. Write for example 10.0.0.1:6379."
        )
    return host.strip("[]"), int(port)


def _check_listening(address: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), PROBE_S).close()
    except OSError as error:
        raise ClusterError(
            f"Nothing answers at cluster.address={address!r}: {error.strerror or error}. "
            "Start a head node there with ray start --head, or correct the address."
        ) from error


# ---------------------------------------------------------------- questions to the head node


class _TokenRequired(Exception):
    """The head node wants a token and got none, or the wrong one."""


def _head_node(address: str) -> ray_internals.HeadNode | None:
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token" and not ray_internals.has_token():
        raise ClusterError(f"RAY_AUTH_MODE=token is set, and this user has none. {GET_TOKEN}")
    return ray_internals.head_node(address, PROBE_S)


def _answer(address: str, question: Callable[[], T]) -> T:
    """Return the head node's answer.

    Raises:
        _TokenRequired: when the head node wants another token.
        ClusterError: when there is no such answer within `PROBE_S`.
    """
    try:
        return question()
    except ray_internals.HeadNodeError as error:
        if error.code == "UNAUTHENTICATED":
            raise _TokenRequired from None
        raise ClusterError(
            f"What answers at cluster.address={address!r} is no Ray head node "
            f"({error.code}). The head's port is 6379 unless ray start was given "
            "another; 8265 and 10001 are its dashboard and its client server."
        ) from error


# ---------------------------------------------------------------- token, versions, own address


def _enable_token(address: str, host: str) -> None:
    """Let this process send its token, or raise a ClusterError that says why it may not.

    By itself Ray sends a token only to a cluster that it discovered. The token in the home folder is
    sent to this machine only; one that was set for this process goes wherever it connects.
    """
    request = f"The Ray cluster at cluster.address={address!r} asks for a token"
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    if mode == "token":
        raise ClusterError(_wrong_token(address))
    if mode:
        raise ClusterError(
            f"{request}, and RAY_AUTH_MODE={mode} sends none. Set RAY_AUTH_MODE=token."
        )
    if not ray_internals.has_token():
        raise ClusterError(f"{request}, and this user has none. {GET_TOKEN}")
    set_by_user = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    if not set_by_user and _resolved(host) not in _local_addresses():
        raise ClusterError(
            f"{request}. Set RAY_AUTH_MODE=token to send it the one in ~/.ray/auth_token, or "
            "RAY_AUTH_TOKEN to send another."
        )
    os.environ["RAY_AUTH_MODE"] = "token"
    if not ray_internals.reload_auth_mode():
        raise ClusterError(f"{request}. Set RAY_AUTH_MODE=token before this command starts.")


def _wrong_token(address: str) -> str:
    source = next(
        (name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if name in os.environ),
        "~/.ray/auth_token",
    )
    return (
        f"The Ray cluster at cluster.address={address!r} does not accept the token from {source}. "
        f"{GET_TOKEN}"
    )


def _check_versions(address: str, metadata: dict[str, Any]) -> None:
    """Refuse a Ray or Python other than ours; Ray would too, later and with more output."""
    import ray

    parts = 2 if os.environ.get("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL") == "minor" else 3
    own_python = ".".join(map(str, sys.version_info[:parts]))
    for name, own, key in (
        ("Ray", ray.__version__, "ray_version"),
        ("Python", own_python, "python_version"),
    ):
        theirs = str(metadata.get(key, own))
        if name == "Python":
            theirs = ".".join(theirs.split(".")[:parts])
        if theirs != own:
            raise ClusterError(
                f"The cluster at cluster.address={address!r} runs {name} {theirs} and this process "
                f"{own}; Ray needs them equal. Run raybench in an environment with {name} {theirs}."
            )


def _own_address(address: str, nodes: list[Any]) -> str:
    """Return the address of this machine's node, through which a driver here joins."""
    local = _local_addresses()
    here = [node for node in nodes if node.node_manager_address in local]
    if not here:
        hosts = ", ".join(sorted({node.node_manager_hostname for node in nodes}))
        # ray start sends its token only where this variable says so
        token = "RAY_AUTH_MODE=token " * (os.environ.get("RAY_AUTH_MODE", "").lower() == "token")
        raise ClusterError(
            f"This machine is no node of the cluster at cluster.address={address!r} ({hosts}). "
            f"Make it one with {token}ray start --address={address} --num-cpus=0 --num-gpus=0, or run "
            "this command through ray job submit."
        )
    reachable = [node for node in here if Path(node.raylet_socket_name).exists()]
    if not reachable:
        raise ClusterError(
            f"The Ray node at {here[0].node_manager_address} runs in another container or for "
            "another user: its socket cannot be seen from here. Run this command inside that "
            "container, or through ray job submit."
        )
    return str(reachable[0].node_manager_address)


def _local_addresses() -> set[str]:
    interfaces = psutil.net_if_addrs().values()
    return {entry.address.partition("%")[0] for entries in interfaces for entry in entries}


def _resolved(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None)[0][4][0])
    except OSError:
        return host

"""Preflight: ask a cluster's head node what would keep us out, before Ray tries to join it.

Over a wrong address, token or version Ray itself takes 20 to 60 s, writes pages of noise, hides the
reason and may exit the process. The head node's own gRPC service answers the same questions in
milliseconds, so every refusal here is one sentence.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from raybench.errors import ClusterError

PROBE_S = 2.0
"""Deadline of one question; a whole preflight asks three."""


@dataclass(frozen=True)
class Gate:
    """Where to join.

    Attributes:
        address: the head node's host:port.
        here: this machine's address in the cluster; None lets Ray find it.
    """

    address: str
    here: str | None


def wanted(address: str | None) -> str | None:
    """The cluster that is meant, or None when Ray is to be started on this machine.

    Args:
        address: as set: None leaves it to RAY_ADDRESS, "local" starts Ray here, "auto" is any
            running cluster, "host:port" that one.
    """
    if address is None:
        address = os.environ.get("RAY_ADDRESS") or "local"
    return None if address == "local" else address


def check(address: str) -> Gate:
    """Find out whether the cluster can be joined from this process.

    Enables token authentication for this process when the head asks for a token that may be sent.

    Raises:
        ClusterError: with the reason and the way out, within about 2 s.
    """
    address = _head(address)
    host, port = _parsed(address)
    _knock(address, host, port)
    try:
        questions = _Questions(address)
    except ImportError:  # another Ray keeps its gRPC channel elsewhere; joining will tell
        return Gate(address, None)
    try:
        questions.cluster()
    except _TokenAskedFor:
        _offer_token(address, host)
        questions = _Questions(address)
    try:
        _same_versions(address, questions.metadata())
    except _TokenAskedFor:
        raise ClusterError(_wrong_token(address)) from None
    return Gate(address, _here(address, questions.nodes()))


def _head(address: str) -> str:
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address_or_die

        try:
            address = canonicalize_bootstrap_address_or_die("auto")
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


def _parsed(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ClusterError(
            f"cluster.address={address!r} is not host:port. Write for example 10.0.0.1:6379."
        )
    return host.strip("[]"), int(port)


def _knock(address: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), PROBE_S).close()
    except OSError as error:
        raise ClusterError(
            f"Nothing answers at cluster.address={address!r}: {error.strerror or error}. "
            "Start a head node there with ray start --head, or correct the address."
        ) from error


# ---------------------------------------------------------------- questions to the head


class _TokenAskedFor(Exception):
    """The head wants a token that was not sent, or another."""


class _Questions:
    """Calls of the head node's gRPC service, in the token mode of the moment it is made.

    Raises: _TokenAskedFor, or ClusterError when there is no such answer within PROBE_S.
    """

    def __init__(self, address: str) -> None:
        from ray._private.grpc_utils import init_grpc_channel
        from ray.core.generated import gcs_service_pb2

        if os.environ.get("RAY_AUTH_MODE", "").lower() == "token" and not _has_token():
            raise ClusterError(f"RAY_AUTH_MODE=token is set, and this user has none. {_GET_TOKEN}")
        self._address = address
        self._channel = init_grpc_channel(address)
        self._messages = gcs_service_pb2

    def _ask(self, service: str, method: str, **fields: Any) -> Any:
        import grpc

        request = getattr(self._messages, f"{method}Request")(**fields)
        call = self._channel.unary_unary(
            f"/ray.rpc.{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=getattr(self._messages, f"{method}Reply").FromString,
        )
        try:
            return call(request, timeout=PROBE_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise _TokenAskedFor from None
            raise ClusterError(
                f"What answers at cluster.address={self._address!r} is no Ray head node "
                f"({error.code().name}). The head's port is 6379 unless ray start was told "
                "another; 8265 and 10001 are its dashboard and its client server."
            ) from error

    def cluster(self) -> bytes:
        return bytes(self._ask("NodeInfoGcsService", "GetClusterId").cluster_id)

    def metadata(self) -> dict[str, Any]:
        reply = self._ask(
            "InternalKVGcsService", "InternalKVGet", key=b"CLUSTER_METADATA", namespace=b"cluster"
        )
        return dict(json.loads(reply.value or b"{}"))

    def nodes(self) -> list[Any]:
        """Alive ones."""
        reply = self._ask("NodeInfoGcsService", "GetAllNodeInfo")
        return [node for node in reply.node_info_list if node.state == 0]


def _offer_token(address: str, host: str) -> None:
    """Let this process send its token, or say why not.

    Ray does so on its own only for a cluster it found itself. A token that is lying in the home
    folder goes to this machine only; one that was set for this process goes where it is told.
    """
    from ray._raylet import Config  # type: ignore[attr-defined]

    asks = f"The Ray cluster at cluster.address={address!r} asks for a token"
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    if mode == "token":
        raise ClusterError(_wrong_token(address))
    if mode:
        raise ClusterError(f"{asks}, and RAY_AUTH_MODE={mode} sends none. Set RAY_AUTH_MODE=token.")
    if not _has_token():
        raise ClusterError(f"{asks}, and this user has none. {_GET_TOKEN}")
    told = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    if not told and _address_of(host) not in _own_addresses():
        raise ClusterError(
            f"{asks}. Set RAY_AUTH_MODE=token to send it the one in ~/.ray/auth_token, or "
            "RAY_AUTH_TOKEN to send another."
        )
    os.environ["RAY_AUTH_MODE"] = "token"
    Config.initialize("")  # Ray read the mode when it was imported


def _has_token() -> bool:
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    return bool(AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True))


_GET_TOKEN = "Run ray get-auth-token on the head node and set RAY_AUTH_TOKEN here."


def _wrong_token(address: str) -> str:
    source = next(
        (name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if name in os.environ),
        "~/.ray/auth_token",
    )
    return (
        f"The Ray cluster at cluster.address={address!r} does not accept the token from {source}. "
        f"{_GET_TOKEN}"
    )


def _same_versions(address: str, facts: dict[str, Any]) -> None:
    """Refuse another Ray or Python than ours; Ray would, with more words and later."""
    from ray._private.utils import compute_version_info

    ray_version, python_version = compute_version_info()
    parts = 2 if os.environ.get("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL") == "minor" else 3
    for name, ours, key in (
        ("Ray", ray_version, "ray_version"),
        ("Python", ".".join(python_version.split(".")[:parts]), "python_version"),
    ):
        theirs = str(facts.get(key, ours))
        if name == "Python":
            theirs = ".".join(theirs.split(".")[:parts])
        if theirs != ours:
            raise ClusterError(
                f"The cluster at cluster.address={address!r} runs {name} {theirs} and this process "
                f"{ours}; Ray needs them equal. Run raybench in an environment with {name} {theirs}."
            )


def _here(address: str, nodes: list[Any]) -> str:
    """This machine's address among the nodes: a driver joins through a node of its own machine."""
    own = _own_addresses()
    mine = [node for node in nodes if node.node_manager_address in own]
    if not mine:
        hosts = ", ".join(sorted({node.node_manager_hostname for node in nodes}))
        raise ClusterError(
            f"This machine is no node of the cluster at cluster.address={address!r} ({hosts}). "
            f"Make it one with ray start --address={address} --num-cpus=0 --num-gpus=0, or run "
            "this command through ray job submit."
        )
    reachable = [node for node in mine if Path(node.raylet_socket_name).exists()]
    if not reachable:
        raise ClusterError(
            f"The Ray node at {mine[0].node_manager_address} runs in another container or for "
            "another user: its socket cannot be seen from here. Run this command inside that "
            "container, or through ray job submit."
        )
    return str(reachable[0].node_manager_address)


def _own_addresses() -> set[str]:
    interfaces = psutil.net_if_addrs().values()
    return {entry.address.partition("%")[0] for entries in interfaces for entry in entries}


def _address_of(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None)[0][4][0])
    except OSError:
        return host

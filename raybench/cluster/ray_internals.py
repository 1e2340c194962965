"""Every private name of Ray that raybench uses, each with what happens where it is missing.

Ray changes these names without notice. Nothing else in the package may use one; a test imports
them all, so that a Ray that moved one is noticed before its users are.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DASHBOARD_STARTERS = ("start_api_server", "start_monitor", "start_log_monitor")
"""Methods of Ray's Node that start what only a dashboard needs: server, autoscaler, log monitor."""
DASHBOARD_PACKAGES = "ray.dashboard.optional_deps"
"""Module that Ray imports to find out whether the dashboard's packages are installed."""
CLUSTER_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Variable that turns clusters of several machines on or off; Ray reads it when it is imported."""


class HeadNodeError(Exception):
    """A head node refused a call, or did not answer it.

    Attributes:
        code: name of the gRPC status, for example "UNAUTHENTICATED".
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class HeadNode:
    """The gRPC service of a cluster's head node. Each method raises HeadNodeError.

    Args:
        channel: to the head node.
        messages: module with the types of requests and replies.
        timeout_s: deadline of each call.
    """

    def __init__(self, channel: Any, messages: Any, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._calls = {
            method: (
                getattr(messages, f"{method}Request"),
                channel.unary_unary(
                    f"/ray.rpc.{service}/{method}",
                    request_serializer=getattr(messages, f"{method}Request").SerializeToString,
                    response_deserializer=getattr(messages, f"{method}Reply").FromString,
                ),
            )
            for service, method in (
                ("NodeInfoGcsService", "GetClusterId"),
                ("InternalKVGcsService", "InternalKVGet"),
                ("NodeInfoGcsService", "GetAllNodeInfo"),
            )
        }

    def cluster_id(self) -> bytes:
        """Return the id of the cluster."""
        return bytes(self._call("GetClusterId").cluster_id)

    def metadata(self) -> dict[str, Any]:
        """Return what the head says of its cluster, such as the versions of Ray and Python."""
        reply = self._call("InternalKVGet", key=b"CLUSTER_METADATA", namespace=b"cluster")
        return dict(json.loads(reply.value or b"{}"))

    def nodes(self) -> list[Any]:
        """Return the nodes that are alive, as messages with address, host name and socket."""
        return [node for node in self._call("GetAllNodeInfo").node_info_list if node.state == 0]

    def _call(self, method: str, **fields: Any) -> Any:
        import grpc

        request, call = self._calls[method]
        try:
            return call(request(**fields), timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise HeadNodeError(error.code().name) from error


def head_node(address: str, timeout_s: float) -> HeadNode | None:
    """Return the service of the head node at host:port, in the token mode of this moment.

    Where it is missing: None, and the caller joins without asking first.
    """
    try:
        from ray._private.grpc_utils import init_grpc_channel
        from ray.core.generated import gcs_service_pb2

        return HeadNode(init_grpc_channel(address), gcs_service_pb2, timeout_s)
    except (ImportError, AttributeError):
        return None


def running_cluster() -> str | None:
    """Return host:port of a cluster that runs on this machine.

    Where it is missing: None, and `ray.init(address="auto")` searches.

    Raises:
        ConnectionError: when no cluster runs here.
    """
    try:
        from ray._private.services import canonicalize_bootstrap_address_or_die
    except ImportError:
        return None
    return str(canonicalize_bootstrap_address_or_die("auto"))


def has_token() -> bool:
    """Return whether this user has an authentication token for Ray.

    Where it is missing: checks the places that Ray documents.
    """
    try:
        from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

        return bool(AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True))
    except (ImportError, AttributeError):
        named = os.environ.get("RAY_AUTH_TOKEN_PATH")
        file = Path(named) if named else Path.home() / ".ray" / "auth_token"
        return bool(os.environ.get("RAY_AUTH_TOKEN")) or file.is_file()


def reload_auth_mode() -> bool:
    """Let Ray read RAY_AUTH_MODE again, which it reads when it is imported.

    Where it is missing: returns False, and the variable has to be set before Ray is imported.
    """
    try:
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")
    except (ImportError, AttributeError):
        return False
    return True


def init(
    *,
    node_ip_address: str | None = None,
    system_config: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Call `ray.init` and return its context.

    Where an argument is missing: Ray finds the address itself, and reads the settings from its
    environment variables.

    Args:
        node_ip_address: address of this machine in the cluster that is joined.
        system_config: settings of Ray's own processes, for a cluster that is started.
        options: public arguments of `ray.init`.
    """
    with _own_sigterm():
        return _init(node_ip_address, system_config, options)


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this process's answer to SIGTERM, which `ray.init` replaces by one that calls sys.exit.

    Where the function is missing: SIGTERM during the start is what Ray makes of it, and the answer is
    restored after it.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        with _without_sigterm_handler():
            yield
    except SystemExit as error:
        if error.code == signal.SIGTERM:
            raise KeyboardInterrupt from error
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _without_sigterm_handler() -> Iterator[None]:
    try:
        from ray._private import utils

        replaced = utils.set_sigterm_handler
    except (ImportError, AttributeError):
        yield
        return
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = replaced


def _init(
    node_ip_address: str | None,
    system_config: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Any:
    """Call `ray.init` with the arguments that it has."""
    import ray

    private: dict[str, Any] = {}
    if node_ip_address is not None:
        private["_node_ip_address"] = node_ip_address
    if system_config:
        private["_system_config"] = dict(system_config)
    try:
        return ray.init(**options, **private)
    except RuntimeError as error:
        # Ray refuses arguments that it does not have before it starts anything
        if "Unknown keyword" not in str(error):
            raise
    for name, value in (system_config or {}).items():
        os.environ.setdefault(f"RAY_{name}", json.dumps(value))
    return ray.init(**options)


@contextlib.contextmanager
def without_messages() -> Iterator[None]:
    """Keep Ray from printing what its processes report: ids, colours, guesses, for each event anew.

    What concerns a point is in its row, in one sentence.

    Where the function is missing: Ray prints.
    """
    try:
        from ray._private import worker

        printing = worker.print_to_stdstream
    except (ImportError, AttributeError):
        yield
        return
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        worker.print_to_stdstream = printing


@contextlib.contextmanager
def without_automatic_start() -> Iterator[None]:
    """Keep Ray from starting a cluster of its own when it is called while there is none.

    A thread that is still at work when its cluster is lost would do so. After an error, which may
    leave such threads, it stays off.

    Where the name is missing: Ray may start.
    """
    try:
        from ray._private import auto_init_hook

        before = auto_init_hook.enable_auto_connect
    except (ImportError, AttributeError):
        yield
        return
    auto_init_hook.enable_auto_connect = False
    yield
    auto_init_hook.enable_auto_connect = before


@contextlib.contextmanager
def on_loopback() -> Iterator[bool]:
    """Let Ray start on the loopback address, as it does on systems where it builds no clusters.

    An address given to `ray.init` would not do: Ray replaces 127.0.0.1 by the machine's own address.
    A user who has set the variable to 1 or true keeps the machine's own address.

    Where the constant is missing: the variable decides, if it is set before Ray is imported.

    Yields:
        Whether Ray will do what the variable says. If not, it may listen on the network.
    """
    in_time = "ray" not in sys.modules or CLUSTER_VARIABLE in os.environ
    # set before the import, and for the processes that Ray starts
    if os.environ.setdefault(CLUSTER_VARIABLE, "0").lower() in ("1", "true"):
        yield True
        return
    try:
        from ray._private import ray_constants

        before = ray_constants.ENABLE_RAY_CLUSTER
    except (ImportError, AttributeError):
        yield in_time
        return
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield True
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def has_dashboard() -> bool:
    """Return whether the packages of Ray's dashboard are installed; Ray refuses to start it without."""
    try:
        importlib.import_module(DASHBOARD_PACKAGES)
    except ImportError:
        return False
    return True


@contextlib.contextmanager
def without_dashboard() -> Iterator[None]:
    """Let Ray start without the processes that serve its dashboard.

    With include_dashboard=False Ray still starts the dashboard's server, empty, and waits for it;
    with the autoscaler and the log monitor that took 2.4 s of a start of 5 s on two cores.

    Where a method is missing: Ray starts what it starts.
    """
    try:
        from ray._private.node import Node
    except ImportError:
        yield
        return
    replaced = {name: Node.__dict__[name] for name in DASHBOARD_STARTERS if name in Node.__dict__}
    imported = sys.modules.get(DASHBOARD_PACKAGES)
    for name in replaced:
        setattr(Node, name, lambda *_, **__: None)
    sys.modules[DASHBOARD_PACKAGES] = None  # type: ignore[assignment]  # makes its import fail
    try:
        yield
    finally:
        for name, method in replaced.items():
            setattr(Node, name, method)
        del sys.modules[DASHBOARD_PACKAGES]
        if imported is not None:
            sys.modules[DASHBOARD_PACKAGES] = imported


@contextlib.contextmanager
def on_session_folder(call: Callable[[Path], None]) -> Iterator[None]:
    """Call a function with the folder of a session as soon as Ray has made it.

    Where the method is missing: nothing is called, and the context of `ray.init` names the folder.
    """
    try:
        from ray._private.node import Node

        make_folders = Node.__dict__["_init_temp"]
    except (ImportError, KeyError):
        yield
        return

    def make_and_call(node: Any, *arguments: Any, **options: Any) -> None:
        try:
            make_folders(node, *arguments, **options)
        finally:  # a signal may come between
            folder = getattr(node, "_session_dir", None)
            if folder is not None:
                call(Path(folder))

    Node._init_temp = make_and_call
    try:
        yield
    finally:
        Node._init_temp = make_folders


def is_autoscaler(process: psutil.Process) -> bool:
    """Return whether a process is Ray's autoscaler. Where its file has moved: False."""
    return _runs(process, "/ray/autoscaler/", "monitor.py")


def is_node_process(process: psutil.Process) -> bool:
    """Return whether a process is a node's raylet. Where its file has moved: False."""
    return _runs(process, "/raylet/", "raylet")


def _runs(process: psutil.Process, folder: str, file: str) -> bool:
    """Return whether the process's command line names a file of this name below such a folder."""
    with contextlib.suppress(psutil.Error):
        return any(folder in path and path.endswith(file) for path in process.cmdline())
    return False

"""Starts Ray on this machine, with only the processes that a benchmark needs."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from raybench.cluster import ray_internals
from raybench.errors import ClusterError
from raybench.machine import checks, devices, folders, room
from raybench.paths import unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raybench.cluster.session_folders import SessionFolder

POLL_S = 0.1
"""How often the processes are searched for Ray's node; one search takes a few milliseconds."""
OBJECT_STORE_BYTES = 256 << 20
"""Measurements and layer times pass through the object store, batches never do."""
SETTINGS = {
    # Ray lowers its workers' priority by 15 otherwise, which unbalances them on a busy machine
    "worker_niceness": 0,
    # How often and how long Ray's processes wait for a socket, 10 s in all as by default. By default
    # they sleep for 1 s, which delayed about every third start on 2 cores.
    "raylet_client_connect_timeout_milliseconds": 100,
    "raylet_client_num_connect_attempts": 100,
    # Start workers with the node, not once the driver has found it: it searches once a second
    "enable_worker_prestart": True,
}
"""Settings of Ray's own processes."""


def start(
    device_counts: Mapping[str, int],
    dashboard: bool,
    namespace: str,
    work_during_start: Callable[[], None],
    folder: SessionFolder,
) -> Any:
    """Start Ray on the loopback address, connect to it and return Ray's context.

    Args:
        device_counts: devices that the cluster offers, by kind ("gpu", "cpu").
        dashboard: whether Ray's dashboard is served.
        namespace: of the actors.
        work_during_start: called once, in a thread, while Ray waits for its processes.
        folder: is marked as soon as Ray has made it.

    Raises:
        ClusterError: when Ray cannot be started, or would listen on the network instead.
    """
    with ray_internals.on_loopback() as on_loopback:
        if not on_loopback:
            variable = f"{ray_internals.CLUSTER_VARIABLE}=0"
            raise ClusterError(
                "Ray was imported before raybench could keep it on the loopback address, and would "
                f"listen on the network. Set {variable} before this program starts."
            )
        try:
            with ray_internals.on_session_folder(folder.mark):
                context = _start(device_counts, dashboard, namespace, work_during_start)
        except (Exception, SystemExit) as error:
            folder.keep = True
            reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
            logs = f" Ray's logs are in {folder.path}/logs until the next run." * bool(folder.path)
            raise ClusterError(f"Ray could not be started here: {reason}.{logs}") from error
        folder.mark(Path(context.address_info["session_dir"]))
        folder.started = True
        return context


def check_room(device_counts: Mapping[str, int]) -> None:
    """Refuse to start where no folder can be written, or Ray could not start its threads.

    Args:
        device_counts: devices that the cluster would offer, by kind.

    Raises:
        ClusterError: with what to do.
    """
    for folder in folders.chosen():
        if folder.path is None:
            raise ClusterError(str(folder.note))
    left = room.threads_left()
    needed = room.threads_needed(sum(device_counts.get(kind, 0) for kind in ("gpu", "cpu")))
    if left is not None and left < needed:
        raise ClusterError(
            f"{checks.too_few_threads(left, needed)}. Allow more ({checks.MORE_THREADS}), or offer "
            "fewer devices (cluster.cpus=N)."
        )


def name_folders() -> None:
    """Set Ray's variables where it could not write to the folders that it would use."""
    temporary = folders.ray()
    if temporary.reason is not None and temporary.path is not None:
        os.environ["RAY_TMPDIR"] = str(temporary.path)
    try:
        home = str(Path.home())
    except RuntimeError:  # no variable and no entry for this user, as in some containers
        home = ""
    if (not home or unusable(home)) and not ray_internals.has_token():
        # Ray would make a token for this cluster there
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _start(
    device_counts: Mapping[str, int],
    dashboard: bool,
    namespace: str,
    work_during_start: Callable[[], None],
) -> Any:
    """Start Ray, connect to it and return Ray's context."""
    dashboard = dashboard and ray_internals.has_dashboard()
    if not dashboard:
        os.environ.setdefault("RAY_enable_metrics_collection", "0")
    if (slices := devices.slices_to_show()) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slices
    started = threading.Event()
    threading.Thread(
        target=_run_once_node_starts, args=(started, work_during_start), daemon=True
    ).start()
    try:
        with contextlib.nullcontext() if dashboard else ray_internals.without_dashboard():
            return ray_internals.init(
                address="local",
                num_cpus=device_counts["cpu"],
                num_gpus=device_counts["gpu"],
                include_dashboard=dashboard,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level="error",
                namespace=namespace,
                system_config=SETTINGS,
            )
    finally:
        started.set()


def end_autoscaler() -> None:
    """Kill Ray's autoscaler, which runs where there is a dashboard.

    Ray itself ends it after its own store; the autoscaler then waits for that store until Ray kills
    it, a second later.
    """
    for child in psutil.Process().children():
        if ray_internals.is_autoscaler(child):
            with contextlib.suppress(psutil.Error):  # it may have ended by itself
                child.kill()


def _run_once_node_starts(started: threading.Event, work: Callable[[], None]) -> None:
    """Do the work once Ray has started its node, or once `started` is set.

    The node is the last process that Ray starts; until then Ray itself needs the interpreter.
    """
    own = psutil.Process()
    while not started.wait(POLL_S):
        if any(ray_internals.is_node_process(child) for child in own.children()):
            break
    work()

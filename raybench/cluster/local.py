"""Embedded: a Ray of our own on this machine, with the processes that a benchmark needs."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

POLL_S = 0.1
"""Time between two looks for Ray's node; a look takes some milliseconds."""
OBJECT_STORE_BYTES = 256 << 20
"""Traces and reports pass through it, never batches."""
SETTINGS = {
    # Ray lowers its workers' priority by 15 otherwise, which unbalances them on a busy machine
    "worker_niceness": 0,
    # Ray's processes try again so soon when a socket is not there yet, in all for 10 s as usual: by
    # default they sleep for 1 s, which about every third start on 2 cores met
    "raylet_client_connect_timeout_milliseconds": 100,
    "raylet_client_num_connect_attempts": 100,
    # workers start with the node and not once the driver has found it, which it looks for once a second
    "enable_worker_prestart": True,
}
"""Ray's own."""
SPARED = ("start_api_server", "start_monitor", "start_log_monitor")
"""How Ray starts what a run without a dashboard has no use for: server, autoscaler, log monitor."""
DASHBOARD_PACKAGES = "ray.dashboard.optional_deps"
"""Where Ray looks whether the dashboard's packages are installed."""


def start(
    told: Mapping[str, int], dashboard: bool, namespace: str, meanwhile: Callable[[], None]
) -> Any:
    """Start Ray, on the loopback address, and connect to it; gives Ray's context.

    Args:
        told: number of devices of each kind, gpu and cpu.
        dashboard: whether Ray's dashboard is served.
        namespace: of the actors.
        meanwhile: called once in a thread while Ray waits for its processes.
    """
    # Read when Ray is imported: it then keeps to the loopback address, as on systems where it makes no
    # clusters. Any other way to ask for that (_node_ip_address) it turns into the machine's own address.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if not dashboard:
        os.environ.setdefault("RAY_enable_metrics_collection", "0")
    started = threading.Event()
    threading.Thread(target=_once_ray_waits, args=(started, meanwhile), daemon=True).start()
    try:
        with contextlib.nullcontext() if dashboard else _without_dashboard(ray):
            return ray.init(
                address="local",
                num_cpus=told["cpu"],
                num_gpus=told["gpu"],
                include_dashboard=dashboard,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level="error",
                namespace=namespace,
                _system_config=SETTINGS,
            )
    finally:
        started.set()


def end_autoscaler() -> None:
    """End the process that would rent nodes from a cloud, which runs beside a dashboard.

    Ray ends it after its own store, which it then looks for until Ray kills it after a second.
    """
    for child in psutil.Process().children():
        if _runs(child, "/ray/autoscaler/", "monitor.py"):
            with contextlib.suppress(psutil.Error):  # it may have ended since
                child.kill()


@contextlib.contextmanager
def _without_dashboard(ray: Any) -> Iterator[None]:
    """Let Ray start without what serves its dashboard.

    Told to include no dashboard, Ray still starts its server, empty, and waits for it before it goes
    on; with the others that made 2.4 s of 5 on two cores. Where Ray calls these otherwise one day,
    they are started as ever.
    """
    node = ray._private.node.Node
    kept = {name: node.__dict__[name] for name in SPARED if name in node.__dict__}
    known = sys.modules.get(DASHBOARD_PACKAGES)
    for name in kept:
        setattr(node, name, lambda *_, **__: None)
    sys.modules[DASHBOARD_PACKAGES] = None  # type: ignore[assignment]  # its import now fails
    try:
        yield
    finally:
        for name, method in kept.items():
            setattr(node, name, method)
        del sys.modules[DASHBOARD_PACKAGES]
        if known is not None:
            sys.modules[DASHBOARD_PACKAGES] = known


def _once_ray_waits(started: threading.Event, work: Callable[[], None]) -> None:
    """Do work once Ray has started its node, the last of its processes, or else after it.

    Before that Ray needs the interpreter.
    """
    own = psutil.Process()
    while not started.wait(POLL_S):
        if any(_runs(child, "/raylet/", "raylet") for child in own.children()):
            break
    work()


def _runs(process: psutil.Process, folder: str, file: str) -> bool:
    """Whether a process's command names a file so called with that folder in its path."""
    with contextlib.suppress(psutil.Error):
        return any(folder in word and word.endswith(file) for word in process.cmdline())
    return False

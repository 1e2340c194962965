"""Notices that the head node of a cluster has gone, before Ray ends this process for it.

Without its head Ray's driver waits for a minute and then leaves the process at once: no row, no
message of ours. A thread asks every few seconds whether the head still listens.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

from raybench.errors import HeadLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECK_S = 2.0
"""How often the head is asked, and how long for an answer."""
GONE_S = 20.0
"""A head that does not answer for so long has gone; Ray itself gives up after 60 s."""


@contextlib.contextmanager
def watching(head: str, on_gone: Callable[[HeadLost], None]) -> Iterator[None]:
    """Call `on_gone` once, from a thread, when the head stays away.

    Args:
        head: host:port of the head node; empty watches nothing.
        on_gone: receives what to raise.
    """
    ended = threading.Event()
    if head:
        threading.Thread(target=_watch, args=(head, on_gone, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _watch(head: str, on_gone: Callable[[HeadLost], None], ended: threading.Event) -> None:
    silent_since = None  # not the last answer, since which this process itself may have stood still
    while not ended.wait(CHECK_S):
        if _listens(head):
            silent_since = None
            continue
        now = time.monotonic()
        silent_since = now if silent_since is None else silent_since
        if now - silent_since >= GONE_S:
            on_gone(
                HeadLost(
                    f"The cluster's head node {head} went away. Finished rows are kept; the same "
                    "command goes on where it stopped once a cluster runs again."
                )
            )
            return


def _listens(head: str) -> bool:
    host, _, port = head.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CHECK_S).close()
    except OSError:
        return False
    return True

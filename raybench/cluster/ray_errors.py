"""Waits for Ray calls and translates Ray's exceptions into raybench's own."""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Any, TypeVar

from raybench.errors import (
    EngineFailure,
    NodeDied,
    OutOfMemory,
    PhaseTimeout,
    PointError,
    RaybenchError,
    Refused,
    WorkerDied,
)
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NODE_CHECK_S = 1.0
"""How often the nodes of workers that are starting are checked; a start on a dead node never ends."""
NODE_POLL_S = 0.25
"""How often `lost_nodes` asks Ray for dead nodes."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ENDS = tuple(
    (re.compile(pattern), clause)
    for pattern, clause in (
        (r"raised in its creation task.*\n(?:.*\n)*(.*\S)", "it could not start, {}"),
        (r"killed by `?ray.kill", "another program ended it"),
        (r"(?i)exit code:? (\d+)", "it exited with code {}"),
        (
            r"connection error code|SYSTEM_ERROR|Socket closed",
            "it was killed, by hand or by the system for its memory (dmesg says so)",
        ),
        (r"unavailable|RpcError", "its node no longer answered"),
    )
)
"""Parts of Ray's texts, and what they mean; the first that is found counts."""

T = TypeVar("T")


def get_all(
    calls: list[Any],
    timeout_s: float,
    phase: str,
    ranks: Sequence[int] | None = None,
    nodes: Sequence[str] = (),
    while_waiting: Callable[[Sequence[int]], object] | None = None,
) -> list[Any]:
    """Wait for Ray calls and return their results in order.

    Args:
        calls: object references.
        timeout_s: longest wait for all of them.
        phase: of the trial, for error messages.
        ranks: of the workers called; by default one call per worker, in order of rank.
        nodes: ids of the workers' nodes, by rank. When given, the wait also ends when one of them
            is lost.
        while_waiting: called about once a second with the ranks of those who have not returned.

    Raises:
        PointError: for the first call that fails, with the ranks of the workers concerned.
        PhaseTimeout: when a call has not returned in time.
        NodeDied: when a node of `nodes` is lost.
    """
    import ray

    rank_of = dict(zip(calls, ranks if ranks is not None else range(len(calls)), strict=True))
    deadline = time.monotonic() + timeout_s
    waiting = list(calls)
    while waiting:
        left_s = max(deadline - time.monotonic(), 0.0)
        wait_s = min(left_s, NODE_CHECK_S) if nodes or while_waiting else left_s
        ready, waiting = translate(
            lambda refs=waiting, s=wait_s: ray.wait(refs, num_returns=1, timeout=s),  # type: ignore[misc]
            phase,
        )
        if ready:
            translate(lambda refs=ready: ray.get(refs), phase, (rank_of[ready[0]],))  # type: ignore[misc]
            continue
        late = [rank_of[call] for call in waiting]
        if while_waiting is not None:
            while_waiting(late)
        if lost_nodes([nodes[rank] for rank in late] if nodes else (), 0.0):
            raise with_ranks(NodeDied(f"A node went away in phase {phase!r}."), late)
        if time.monotonic() >= deadline:
            raise with_ranks(_timeout(phase, timeout_s, len(late)), late)
    return translate(lambda: list(ray.get(calls)), phase)


def _timeout(phase: str, timeout_s: float, workers: int) -> PhaseTimeout:
    return PhaseTimeout(
        f"Phase {phase!r} did not end within {timeout_s:.0f} s on {counted(workers, 'worker')}, "
        f"{agreeing(workers, 'which was', 'which were')} ended. Look for a hang, or allow more time."
    )


def with_ranks(error: PointError, ranks: Sequence[int]) -> PointError:
    """Return the error with the ranks of the workers it concerns."""
    error.ranks = tuple(ranks)
    return error


def translate(call: Callable[[], T], phase: str, ranks: Sequence[int] = ()) -> T:
    """Return the result of a call of Ray; raise Ray's exceptions as PointErrors."""
    try:
        return call()
    except Exception as error:
        own = failure_of(error, phase)
        if own is None:
            raise
        raise with_ranks(own, ranks) from error


def failure_of(error: Exception, phase: str) -> PointError | None:
    """Convert an exception of Ray into a PointError; None for a bug in raybench."""
    import ray.exceptions as rx

    if isinstance(error, rx.RayTaskError):
        return _failure_in_worker(error.cause, phase)
    if isinstance(error, rx.OutOfMemoryError):
        return OutOfMemory(phase, None, "Ray ended the worker to save the node")
    if isinstance(error, rx.NodeDiedError):
        return NodeDied(f"A node went away in phase {phase!r}. Look at that machine.")
    if isinstance(error, rx.RaySystemError):  # also of a call after Ray has ended
        return NodeDied(f"Ray ended on this machine in phase {phase!r}.")
    if isinstance(error, (rx.ActorDiedError, rx.ActorUnavailableError, rx.TaskCancelledError)):
        died = WorkerDied(f"A worker's process ended in phase {phase!r}: {_why_it_ended(error)}.")
        died.node_unclear = isinstance(error, rx.ActorUnavailableError)
        return died
    return None


def _failure_in_worker(cause: BaseException, phase: str) -> PointError:
    """Return the PointError for an exception that was raised inside a worker."""
    if isinstance(cause, PointError):
        return cause
    if isinstance(cause, RaybenchError):
        return Refused(str(cause))
    if isinstance(cause, MemoryError):
        return OutOfMemory(phase, None, str(cause) or "MemoryError")
    return EngineFailure(
        f"A worker raised {type(cause).__name__} in phase {phase!r}: {last_line(cause)}"
    )


def lost_nodes(nodes: Sequence[str], wait_s: float) -> list[str]:
    """Return the nodes that Ray reports dead, polling until there is one or the wait is over.

    Ray breaks a call to a lost node within seconds but reports the node dead only later.

    Args:
        nodes: ids to check; a node that Ray does not list counts as dead.
        wait_s: longest wait; 0 asks once.
    """
    import ray

    deadline = time.monotonic() + wait_s
    while nodes:
        lost: list[str] = []
        with contextlib.suppress(Exception):  # the cluster itself may be shutting down
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            lost = [node for node in nodes if node not in alive]
        if lost or time.monotonic() >= deadline:
            return lost
        time.sleep(NODE_POLL_S)
    return []


def _why_it_ended(error: Exception) -> str:
    """Return a clause in place of Ray's text, which is long, lists ids and guesses."""
    text = str(error)
    return next(
        (
            clause.format(*found.groups())
            for pattern, clause in _ENDS
            if (found := pattern.search(text))
        ),
        last_line(error).rstrip("."),
    )


def last_line(error: BaseException) -> str:
    """Return the last line of an error's text, without colours and at most 300 characters."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]

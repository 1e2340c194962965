"""Processes that a test starts and that must not keep it waiting."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator


@contextlib.contextmanager
def killed_at_the_end(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Kill a process at the end of the block: leaving `Popen` waits, for ever after a failed test."""
    try:
        yield
    finally:
        process.kill()

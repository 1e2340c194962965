"""Controls when Python's garbage collector runs, since a collection takes milliseconds."""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Keep the collector off; reference counting still frees what is not in a cycle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """Let the collector run, but not over what exists already, which makes collections short.

    Within `paused()`, the collector runs until the end of this context and is then off again.
    Objects that the caller had frozen stay frozen, and with them, because unfreezing is all or
    nothing, those frozen here.
    """
    enabled = gc.isenabled()
    frozen_before = gc.get_freeze_count() > 0
    gc.freeze()
    gc.enable()
    try:
        yield
    finally:
        if not enabled:
            gc.disable()
        if not frozen_before:
            gc.unfreeze()

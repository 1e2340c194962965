"""Canonical JSON and hashes over it, for the ids and keys that rows and caches are found by.

Ids of points, environments, models and plans are hashes over these bytes: a change here would
measure every point anew and miss every cache.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def canonical_json(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """Return JSON with sorted keys, no spaces and ASCII only.

    Args:
        value: what to write.
        default: converts what JSON cannot hold; by default that is a TypeError.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=default)


def canonical_hash(value: Any, digits: int, default: Callable[[Any], Any] | None = None) -> str:
    """Return the first hex digits of the SHA-256 over the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value, default).encode()).hexdigest()[:digits]

"""House: where conf/ and experiments/ lie."""

from __future__ import annotations

from pathlib import Path

_PACKED = Path(__file__).parent / "_data"
HOUSE = _PACKED if _PACKED.is_dir() else Path(__file__).parent.parent
"""Inside an installed wheel, or in the checkout."""

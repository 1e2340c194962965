"""Where the package and the files shipped with it are."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent
_PACKED = PACKAGE / "_data"
HOUSE = _PACKED if _PACKED.is_dir() else PACKAGE.parent
"""Folder that holds conf/ and experiments/: inside an installed wheel, or in the checkout."""

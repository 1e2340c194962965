"""Figures with captions, one file for each question; the only package that uses matplotlib."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from raybench.paths import make_private, unusable

CONFIG_VARIABLE = "MPLCONFIGDIR"


def _name_config_folder() -> None:
    """Name a folder for matplotlib's list of fonts where its usual one cannot be written.

    Otherwise it would make the list anew for every report, and say so on the terminal.
    """
    usual = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    folder = os.environ.get(CONFIG_VARIABLE) or os.path.expanduser(f"{usual}/matplotlib")
    if unusable(folder):
        with contextlib.suppress(OSError):
            spare = Path(tempfile.gettempdir(), f"raybench-matplotlib-{os.getuid()}")
            make_private(spare)
            os.environ[CONFIG_VARIABLE] = str(spare)


_name_config_folder()

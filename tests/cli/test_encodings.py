"""Every verb prints to a terminal that knows ASCII or Latin-1 only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN = {"PYTHONIOENCODING": "latin-1"}


@pytest.mark.parametrize("variables", [ASCII, C_LOCALE, LATIN], ids=["ascii", "C", "latin-1"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["plan", "experiment=scaling", "engine=simulated"], 0),
        (["doctor"], 0),
        (["run", "model=日本語.onnx"], 2),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_verb_prints_where_the_encoding_lacks_its_letters(
    words: list[str], code: int, variables: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "raybench", *words], cwd=tmp_path, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables}, timeout=1200,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    (done.stdout + done.stderr).decode("latin-1" if variables is LATIN else "ascii")

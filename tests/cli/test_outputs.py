"""Outputs that nobody reads: a closed pipe, a full disk, a closed standard output."""

import os
import subprocess
import sys
import threading

import pytest

from raybench.cli import outputs

COMMANDS = (["list"], ["plan", "experiment=scaling", "cluster.cpus=1"], ["doctor"], ["--help"])
RAYBENCH = f"{sys.executable} -m raybench"
MEASURED = """
import sys, types
run = types.ModuleType("raybench.cli.run")
def command(words):
    for number in range(100_000):
        print("[1/1] a point ...", flush=True)
    print("rows are written", file=sys.stderr)
    return 1
run.command = command
sys.modules["raybench.cli.run"] = run
sys.argv = ["raybench", "run"]
from raybench.__main__ import main
sys.exit(main())
"""


def shell(script):
    """Run a script and return the exit code of raybench in it, and what came to its errors."""
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, timeout=600
    )
    return int(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("output", "code", "error"),
    [
        ("| true; echo ${PIPESTATUS[0]}", 0, ""),
        (">&-; echo $?", 0, ""),
        (">&- 2>&- <&-; echo $?", 0, ""),
        (
            ">/dev/full; echo $?",
            2,
            "raybench: the output cannot be written: No space left on device.\n",
        ),
        (">/dev/full 2>&1; echo $?", 2, ""),
    ],
    ids=["closed pipe", "closed", "all closed", "full", "both full"],
)
def test_a_command_ends_quietly_or_with_one_sentence(words, output, code, error):
    assert shell(f"{RAYBENCH} {' '.join(words)} {output}") == (code, error)


@pytest.mark.parametrize(
    ("output", "error"),
    [
        ("| true; echo ${PIPESTATUS[0]}", ""),
        (">&-; echo $?", ""),
        (
            ">/dev/full; echo $?",
            "raybench: the output cannot be written: No space left on device. Rows are kept.\n",
        ),
    ],
    ids=["closed pipe", "closed", "full"],
)
def test_a_run_goes_on_and_keeps_its_own_exit_code(output, error, tmp_path):
    (tmp_path / "measured.py").write_text(MEASURED)
    measured = f"{sys.executable} {tmp_path / 'measured.py'}"
    assert shell(f"{measured} {output}") == (1, f"rows are written\n{error}")


def test_an_output_without_room_is_waited_for_and_does_not_keep_a_core_busy():
    read, write = os.pipe()
    os.set_blocking(write, False)
    held = []
    with outputs._text(outputs._OpenOutput(write, "w"), None) as text:
        reader = threading.Thread(target=lambda: held.append(_all_of(read)))
        waits = []

        def select(*files):
            waits.append(files)
            if not reader.is_alive():
                reader.start()
            selecting(*files)

        selecting, outputs.select.select = outputs.select.select, select
        try:
            text.write("x" * 300_000)
            text.flush()
        finally:
            outputs.select.select = selecting
    reader.join(300)
    assert held == [b"x" * 300_000]
    assert waits


def _all_of(number):
    with os.fdopen(number, "rb") as file:
        return file.read()

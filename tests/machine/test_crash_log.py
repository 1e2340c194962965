"""A process that a signal ends has said which signal, and what it was doing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from raybench.machine import crash_log
from raybench.machine.crash_log import Crash

SCRIPT = """
import os, signal
from raybench.machine import crash_log
log = crash_log.open_log()
log.note("loading the graph of 'one.onnx'")
log.note("")
log.note("loading the graph of 'two.onnx'")
{end}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def pid_of_process(end):
    """Run the script to its end, whatever that is, and return the process's id."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(end=end)])
    process.wait(300)
    return process.pid


@pytest.mark.parametrize("signal", ["SIGSEGV", "SIGABRT", "SIGILL", "SIGBUS", "SIGFPE"])
def test_a_signal_of_the_process_itself_is_read_with_what_it_had_begun(signal):
    pid = pid_of_process(f"os.kill(os.getpid(), signal.{signal})")
    assert crash_log.read(pid) == Crash(signal, "loading the graph of 'two.onnx'")
    assert crash_log.crashed_before("loading the graph of 'two.onnx'")
    assert not crash_log.crashed_before("loading the graph of 'one.onnx'")


def test_an_abort_of_c_code_is_read_as_one():
    assert crash_log.read(pid_of_process("os.abort()")).signal == "SIGABRT"


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(1)", "pass"])
def test_any_other_end_is_no_crash(end):
    assert crash_log.read(pid_of_process(end)) is None


def test_nothing_is_known_of_a_process_without_a_log():
    assert crash_log.read(1) is None
    assert not crash_log.crashed_before("anything")


def test_a_log_is_removed_once_its_process_has_ended_and_a_crash_after_a_day(tmp_path):
    gone, crashed = pid_of_process("pass"), pid_of_process("os.abort()")
    folder = tmp_path / f"raybench-{os.getuid()}"
    pid_of_process("pass")
    assert not (folder / str(gone)).exists()
    assert crash_log.read(crashed)
    os.utime(folder / str(crashed), (0, 0))
    pid_of_process("pass")
    assert crash_log.read(crashed) is None


def test_a_folder_that_cannot_be_used_costs_only_the_log(tmp_path):
    (tmp_path / f"raybench-{os.getuid()}").write_text("a file")
    crash_log.open_log().note("loading")

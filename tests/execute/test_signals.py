import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers.processes import killed_at_the_end

from raybench.execute.signals import Signals
from raybench.execute.stop_request import StopRequest

ROOT = Path(__file__).parents[2]

ENDLESS = """
import subprocess, sys, time
from raybench.execute.signals import Signals
from raybench.execute.stop_request import StopRequest
stop = StopRequest()
stop.listen(lambda: print("first", flush=True))
with Signals(stop):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(child.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop_and_the_second_ends_all_at_once(number):
    with (
        subprocess.Popen(
            [sys.executable, "-c", ENDLESS],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        killed_at_the_end(process),
    ):
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.send_signal(number)
        assert process.stdout.readline() == "first\n"
        process.send_signal(number)
        assert process.wait(300) == 130
    deadline = time.monotonic() + 300
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(child)


IN_PYTHON = """
import sys, types
slow = types.ModuleType("raybench.cli.{verb}")
def command(words):
    print("at work", flush=True)
    try:
        while True: pass
    except KeyboardInterrupt:
        {then}
slow.command = command
sys.modules["raybench.cli.{verb}"] = slow
sys.argv = ["raybench", "{verb}", *sys.argv[1:]]
from raybench.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("verb", ["run", "plan", "report", "doctor"])
def test_a_signal_ends_every_command_with_one_sentence(verb, number):
    done = _interrupted(IN_PYTHON.format(verb=verb, then="raise"), number)
    assert done == (
        130,
        f"raybench: interrupted{'; rows that were written are kept' * (verb == 'run')}.\n",
    )


def test_an_exception_that_a_library_drops_still_ends_in_the_exit_code():
    done = _interrupted(IN_PYTHON.format(verb="plan", then="return 0"), signal.SIGTERM)
    assert done == (130, "raybench: interrupted.\n")


def test_a_signal_while_modules_are_imported_ends_the_command():
    code = (
        "import builtins, sys\n"
        "original = builtins.__import__\n"
        "def slow(name, *others, **options):\n"
        "    if name == 'raybench.config.words' or 'words' in (others[2] or ()):\n"
        "        print('at work', flush=True)\n"
        "        while True: pass\n"
        "    return original(name, *others, **options)\n"
        "from raybench.__main__ import main\n"
        "builtins.__import__ = slow\n"
        "sys.argv = ['raybench', 'list']\n"
        "sys.exit(main())"
    )
    assert _interrupted(code, signal.SIGTERM) == (130, "raybench: interrupted.\n")


def _interrupted(code, number):
    """Return exit code and error output of a program that gets a signal when it is at work."""
    with (
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        killed_at_the_end(process),
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(number)
        return process.wait(300), process.stderr.read()


def test_a_terminal_that_goes_away_counts_once():
    with Signals(stop := StopRequest()) as signals:
        stop.listen(lambda: None)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signals.received
    with pytest.raises(KeyboardInterrupt):
        stop.check()


def test_what_must_not_be_cut_short_comes_to_its_end():
    with Signals(stop := StopRequest()):
        with stop.held():
            os.kill(os.getpid(), signal.SIGTERM)
            reached = True
        assert reached
        with pytest.raises(KeyboardInterrupt):
            stop.check()


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
    try:
        with Signals(StopRequest()) as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not signals.received
    finally:
        signal.signal(signal.SIGHUP, before)


def _alive(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_before_the_run_listens_a_signal_interrupts_and_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), Signals(StopRequest()):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupt_inside_a_class_that_is_being_made_ends_with_the_code(tmp_path):
    """A dataclass is made by `exec`, and CPython ends by SIGINT when an interrupt passed through one."""
    (tmp_path / "interrupted.py").write_text(
        "import sys\n"
        "from raybench import __main__\n"
        "from raybench.cli import main as command_line\n"
        "def interrupt():\n"
        "    exec('raise KeyboardInterrupt')\n"
        "command_line.VERBS['list'] = lambda words: interrupt()\n"
        "sys.argv[1:] = ['list']\n"
        "sys.exit(__main__.main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"], cwd=tmp_path, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "raybench: interrupted.\n")

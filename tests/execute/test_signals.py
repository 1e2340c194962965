import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from raybench.execute.signals import Signals
from raybench.execute.stop_request import StopRequest

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
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
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


def _alive(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_before_the_run_listens_a_signal_interrupts_and_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), Signals(StopRequest()):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before

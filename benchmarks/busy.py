"""Run a command while a process of its own keeps every core busy, and say whether it still works.

For the tests: `make busy` runs the whole suite so, again and again. Each line gives the exit code,
the duration and the load average. Exit code 1 when the command failed once.

    python benchmarks/busy.py [--times 5] [--hogs 1] COMMAND ...
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HOG = """
import os, sys
parent = int(sys.argv[1])
os.sched_setaffinity(0, {int(sys.argv[2])})
while os.getppid() == parent:  # a hog never outlives this script, however it ends
    for _ in range(1_000_000):
        pass
"""


@contextlib.contextmanager
def busy(hogs: int) -> Iterator[None]:
    """Keep each core that this process may use busy with so many processes."""
    parent, cores = str(os.getpid()), sorted(os.sched_getaffinity(0))
    commands = [[sys.executable, "-c", HOG, parent, str(core)] for core in cores * hogs]
    running = [subprocess.Popen(command) for command in commands]
    try:
        yield
    finally:
        for hog in running:
            hog.kill()
            hog.wait()


def main() -> int:
    """Run the command as often as asked and print a line for each time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--hogs", type=int, default=1, help="busy processes for each core")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    codes = []
    for turn in range(1, options.times + 1):
        began = time.monotonic()
        with busy(options.hogs):
            codes.append(subprocess.run(options.command, check=False).returncode)
        took_s, load = time.monotonic() - began, os.getloadavg()[1]
        print(
            f"{turn}/{options.times}: exit code {codes[-1]} after {took_s:.0f} s on "
            f"{len(os.sched_getaffinity(0))} cores, load average {load:.1f} in 5 minutes",
            flush=True,
        )
    return 1 if any(codes) else 0


if __name__ == "__main__":
    raise SystemExit(main())

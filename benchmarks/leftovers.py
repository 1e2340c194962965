"""Run the command many times and print what has grown in the user's folders.

    python benchmarks/leftovers.py [runs]

Every fifth run is interrupted and every fifth is killed with SIGKILL, which the run after it tidies.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from pathlib import Path

from hosts import ROOT

sys.path.append(str(ROOT / "tests"))
from helpers.one_user import LONG, SHORT, User

RUNS = 20


def ended_early(user: User, number: int) -> None:
    """Start a run and send it the signal of its number while it measures."""
    run = user.run(*LONG)
    assert run.stdout is not None
    for line in iter(run.stdout.readline, ""):
        if line.endswith(" ...\n"):
            break
    run.send_signal(number)
    user.ended(run, 130 if number == signal.SIGINT else -number)


def sizes_kib(user: User) -> dict[str, float]:
    """Return the size of each of the user's folders."""
    return {
        folder.name: sum(f.lstat().st_size for f in folder.rglob("*") if f.is_file()) / 1024
        for folder in sorted(user.folder.iterdir())
    }


def main() -> int:
    """Run, and fail if anything but results and cache has grown."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    folder = Path(tempfile.mkdtemp(prefix="rb"))
    try:
        user = User(folder)
        user.ended(user.run(*SHORT), 0)
        before, files = sizes_kib(user), user.files()
        for number in range(1, runs):
            if number % 5 == 2:
                ended_early(user, signal.SIGINT)
            elif number % 5 == 3:
                ended_early(user, signal.SIGKILL)
            else:
                user.ended(user.run(*SHORT), 0)
        after = sizes_kib(user)
        for name in after:
            print(
                f"{name:<8} {before[name]:8.1f} KiB after one run, {after[name]:8.1f} after {runs}"
            )
        print(f"new outside of results and cache: {sorted(user.files() - files) or 'nothing'}")
        print(f"processes of Ray: {user.processes() or 'none'}")
        return int(user.files() != files or bool(user.processes()))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())

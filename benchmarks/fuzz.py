"""Draw command lines and experiment files at random, and judge how raybench ends with each.

A command must end with exit code 0, 1, 2 or 3 within its time, without a traceback, and say in one
line what is wrong. `run` ends where Ray would start, and no cluster is joined. The same seed draws
the same words again.

    python benchmarks/fuzz.py --lines 2000 --files 500 --processes 50 --seed 18
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from helpers import fuzzing  # noqa: E402

_NO_RAY = ("run", "report")
"""Verbs that are not run as processes: what they start cannot be stopped at the seam from outside."""


def main() -> int:
    """Draw, run and judge; return 0 when every command ended as it must."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        fuzzing.prepare_folder(Path(folder))
        lines: list[list[str]] = []
        faults = []
        with fuzzing.without_ray():
            faults += _draw(
                "command lines", fuzzing.command_lines(), options.lines, options.seed, lines.append
            )
            drawn = Path(folder, "drawn.yaml")
            faults += _draw(
                "YAML files",
                fuzzing.yaml_files().map(lambda data: _written(drawn, data)),
                options.files,
                options.seed,
            )
        faults += _as_processes(lines, options.processes)
        os.chdir(ROOT)
    for words, wrong in faults:
        print(f"\n{words!r}\n{wrong}")
    print(json.dumps({"faults": len(faults), "seed": options.seed}))
    return 1 if faults else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=2000, help="command lines in this process")
    parser.add_argument("--files", type=int, default=500, help="experiment files in this process")
    parser.add_argument("--processes", type=int, default=50, help="command lines as processes")
    parser.add_argument("--seed", type=int, default=18)
    return parser.parse_args()


def _written(path: Path, data: bytes) -> list[str]:
    path.write_bytes(data)
    return ["plan", f"experiment={path}"]


def _draw(
    title: str, strategy: Any, count: int, number: int, keep: Any = None
) -> list[tuple[Any, str]]:
    """Run commands that a strategy draws; print how they ended and return those that went wrong."""
    faults = []
    codes: Counter[int | None] = Counter()
    longest = 0.0
    began = time.monotonic()

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def judge(words: list[str]) -> None:
        nonlocal longest
        ended = fuzzing.run_command(words)
        codes[ended.code] += 1
        longest = max(longest, ended.seconds)
        if keep is not None:
            keep(words)
        if ended.wrong:
            faults.append((words, ended.wrong))

    judge()
    _report(title, codes, longest, time.monotonic() - began, len(faults))
    return faults


def _as_processes(lines: list[list[str]], count: int) -> list[tuple[list[str], str]]:
    """Run some of the drawn command lines as a shell would."""
    fit = [words for words in lines if _fits_a_process(words)]
    faults = []
    codes: Counter[int | None] = Counter()
    longest = 0.0
    start = time.monotonic()
    for words in fit[:: max(1, len(fit) // max(1, count))][:count]:
        began = time.monotonic()
        command = [sys.executable, "-m", "raybench", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment.pop("RAY_ADDRESS", None)
        done = subprocess.run(
            command, env=environment, capture_output=True, check=False, timeout=fuzzing.LIMIT_S
        )
        longest = max(longest, time.monotonic() - began)
        codes[done.returncode] += 1
        wrong = fuzzing.fault(done.returncode, done.stderr.decode(errors="replace"))
        if wrong:
            faults.append((words, wrong))
    _report("processes", codes, longest, time.monotonic() - start, len(faults))
    return faults


def _fits_a_process(words: list[str]) -> bool:
    try:
        encoded = [os.fsencode(word) for word in words]
    except UnicodeEncodeError:
        return False
    starts_ray = not words or words[0] in _NO_RAY or "=" in words[0] or words[0].startswith("-")
    joins = any("address" in word for word in words)
    return not starts_ray and not joins and not any(b"\0" in word for word in encoded)


def _report(
    title: str, codes: Counter[int | None], longest: float, took: float, faults: int
) -> None:
    ends = ", ".join(f"{count} x {code}" for code, count in sorted(codes.items(), key=str))
    print(
        f"{sum(codes.values())} {title} in {took:.0f} s: exit codes {ends}; longest {longest:.1f} s; {faults} wrong"
    )


if __name__ == "__main__":
    raise SystemExit(main())

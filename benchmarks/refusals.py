"""Time how long raybench takes to refuse a cluster that cannot be used, as whole commands.

Starts a Ray cluster of its own that asks for a token, and heads that claim another Ray or Python
(those are stand-ins: they answer the questions of raybench's preflight and nothing else). Promise:
one sentence, exit code 2, within 5 s.

    python benchmarks/refusals.py
"""

from __future__ import annotations

import os
import platform
import secrets
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

LIMIT_S = 5.0
TOKEN = secrets.token_hex(32)
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN, RAY_USAGE_STATS_ENABLED="0")
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import ray  # noqa: E402 - reads the token when it is imported
from _cluster import ray_nodes  # noqa: E402
from helpers.fake_head import Head, serving  # noqa: E402

OURS = {"ray_version": ray.__version__, "python_version": platform.python_version()}
WORDS = ("experiment=scaling", "engine=simulated", "engine.profile=p40", "model=googlenet")


def refused(name: str, address: str, *words: str, **variables: str) -> bool:
    """Run and print a command; return whether it is refused as promised."""
    usual = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "raybench", *WORDS, f"cluster.address={address}", *words],
        env={**usual, "RAY_AUTH_TOKEN": TOKEN, **variables}, capture_output=True, text=True,
    )  # fmt: skip
    took = time.monotonic() - began
    said = done.stdout + done.stderr
    print(f"{took:4.1f} s  {name}\n        {said.strip()}", flush=True)
    return done.returncode == 2 and len(said.splitlines()) == 1 and took < LIMIT_S


def unused() -> str:
    """Return an address where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def main() -> int:
    """Return 0 when every refusal comes as promised."""
    with ExitStack() as stack:
        head = stack.enter_context(ray_nodes(head_gpus=2))
        old_ray = stack.enter_context(serving(Head({**OURS, "ray_version": "2.40.0"}, [])))
        old_python = stack.enter_context(serving(Head({**OURS, "python_version": "3.8.1"}, [])))
        held = [
            refused("wrong port", unused()),
            refused("wrong token", head, RAY_AUTH_TOKEN=secrets.token_hex(32)),
            refused("no token", head, RAY_AUTH_TOKEN="", HOME="/nonexistent"),
            refused("other Ray", old_ray),
            refused("other Python", old_python),
            refused("no device of that type", head, "accelerator=B200"),
            refused("too few devices", head, "grid.workers=3"),
        ]
    print("all within 5 s" if all(held) else "does not hold")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())

"""The process in which other packages build and export a model.

It ends before anything is measured, so their memory, threads and warnings never reach a worker. It sees
no GPU, and no network but for the one task that asks for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from raybench.errors import ModelError
from raybench.paths import PACKAGE

_MODULE = "raybench.models.named.exporter"
_LAST_CHARACTERS = 300


def ask(
    task: str, request: dict[str, Any], limit_s: float | None = None, online: bool = False
) -> dict[str, Any]:
    """Let the process do one task and return its reply.

    Args:
        task: "describe", "fetch" or "export".
        request: what the task needs, as JSON values; "model" is the name as the user wrote it.
        limit_s: longest time that it may take; None for any.
        online: whether it may ask the hub.

    Raises:
        ModelError: the task failed; the message says in which step, why, and what to do.
    """
    with tempfile.TemporaryDirectory(prefix="raybench-export-") as scratch:
        reply = Path(scratch) / "reply.json"
        try:
            done = subprocess.run(
                [sys.executable, "-m", _MODULE, str(reply)],
                input=json.dumps({"task": task, **request}),
                env=_environment(online),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ModelError(
                f"Model {request['model']!r}: no answer within {limit_s:.0f} s ({task}). "
                "Check the network, or set HF_HUB_OFFLINE=1 to use what is in the cache."
            ) from error
        if reply.is_file():
            answer: dict[str, Any] = json.loads(reply.read_text("utf-8"))
            if "error" in answer:
                raise ModelError(answer["error"])
            return answer
        raise ModelError(_ended(request["model"], task, done))


def _environment(online: bool) -> dict[str, str]:
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    silent = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    patience = {"HF_HUB_ETAG_TIMEOUT": "10", "HF_HUB_DOWNLOAD_TIMEOUT": "10"}
    return {
        **(patience if online else {}),
        **os.environ,
        **({} if online else silent),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",  # a folder of the user's named timm is not the package
    }


def _ended(model: str, task: str, done: subprocess.CompletedProcess[str]) -> str:
    """Return what to say of a process that ended without a reply."""
    if done.returncode == -9:
        return (
            f"Model {model!r} cannot be exported: the process was killed ({task}), most likely for lack of "
            "memory, of which it needs about three times the weights in fp32. Export it to ONNX on a larger "
            "machine and give the path of the file."
        )
    last = " ".join(done.stderr.split())[-_LAST_CHARACTERS:]
    return (
        f"Model {model!r} cannot be exported: the process ended with status {done.returncode} ({task}): "
        f"{last or 'it said nothing'}. Check the installation of torch, or give the path of an ONNX file."
    )

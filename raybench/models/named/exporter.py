"""The process that `child_process.ask` starts: it imports torch, builds a module and writes it as ONNX.

It reads a request from its input, writes a reply to the file that its argument names, and ends.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raybench.models.named import hf_models, timm_models, torchvision_models
from raybench.models.named.module import ExportStep, NotTensorsError

if TYPE_CHECKING:
    from types import ModuleType

_LIBRARIES: dict[str, ModuleType] = {
    "timm": timm_models,
    "torchvision": torchvision_models,
    "hf": hf_models,
}
_REASON_CHARACTERS = 300


def main() -> None:
    """Do the task of a request and write the reply: facts, or "error" with a sentence."""
    warnings.simplefilter("ignore")
    request = json.load(sys.stdin)
    step = ExportStep("reading the request")
    try:
        answer = _TASKS[request["task"]](request, step)
    except NotTensorsError as error:
        answer = {"error": f"Model {request['model']!r} {error}"}
    except Exception as error:  # noqa: BLE001 - any of three libraries may raise anything
        answer = {"error": _failure(request["model"], step, error)}
    Path(sys.argv[1]).write_text(json.dumps(answer), "utf-8")


def _describe(request: dict[str, Any], step: ExportStep) -> dict[str, Any]:
    step.now = "reading its configuration"
    facts: dict[str, Any] = _LIBRARIES[request["library"]].describe(request)
    return facts


def _fetch(request: dict[str, Any], step: ExportStep) -> dict[str, Any]:
    step.now = "asking the hub for its configuration"
    return hf_models.fetch(request["name"])


def _export(request: dict[str, Any], step: ExportStep) -> dict[str, Any]:
    from raybench.models.named import onnx_export

    return onnx_export.export(_LIBRARIES[request["library"]], request, step)


_TASKS = {"describe": _describe, "fetch": _fetch, "export": _export}


def _failure(model: str, step: ExportStep, error: Exception) -> str:
    text = " ".join(str(error).split())
    short = len(text) <= _REASON_CHARACTERS
    reason = text.rstrip(".") if short else f"{text[:_REASON_CHARACTERS].rpartition(' ')[0]} ..."
    sizes = "Give it another size (model.shapes), try" if step.depends_on_sizes else "Try"
    return (
        f"Model {model!r} cannot be exported: {step.now} failed ({type(error).__name__}: "
        f"{reason}). {sizes} another version of its package, or export it to ONNX by other means and "
        "give the path of the file."
    )


if __name__ == "__main__":
    main()

"""The command line: a verb, then `key=value` words.

Exit codes: 0 every point has a final row and none failed; 1 a point failed, or `compare` found a
regression; 2 usage or configuration, nothing was started, or rows cannot be written and the run
ended; 3 `compare --strict` is undecided; 130 interrupted, rows kept.
"""

from __future__ import annotations

import importlib
import sys
from functools import partial
from typing import TYPE_CHECKING

from raybench import gc_control
from raybench.cli import help as pages
from raybench.errors import ConfigError, RaybenchError, UsageError, nearest
from raybench.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the words after the program's name; None takes those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or {"-h", "--help", "help"} & set(words):
        verb = next((word for word in words if word in pages.VERBS), None)
        print(pages.VERBS[verb] if verb else pages.PROGRAM.format(version=__version__), end="")
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    verb = words.pop(0) if "=" not in words[0] else "run"
    try:
        if verb not in VERBS:
            model = f"To measure it, write model={verb}. " if verb.endswith(".onnx") else ""
            raise ConfigError(f"Unknown verb {verb!r}. {model}{nearest(verb, VERBS)}")
        return VERBS[verb](words)
    except UsageError as error:
        print(f"raybench: {error}", file=sys.stderr)
        return 2
    except RaybenchError as error:
        print(f"raybench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("raybench: interrupted; rows that were written are kept.", file=sys.stderr)
        return 130


def _run_verb(verb: str, words: list[str]) -> int:
    """Import the module of a verb, which may be slow, and run its `command`."""
    with gc_control.paused():  # modules do not become garbage
        module = importlib.import_module(f"raybench.cli.{verb}")
    return int(module.command(words))


VERBS: dict[str, Callable[[list[str]], int]] = {
    verb: partial(_run_verb, verb)
    for verb in ("run", "plan", "list", "doctor", "show", "compare", "report")
}

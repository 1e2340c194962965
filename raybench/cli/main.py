"""The command line: a verb, then `key=value` words.

Exit codes: 0 every point has a final row and none failed; 1 a point failed, `compare` or `trend` found
a regression, or `accept` rejected a device; 2 usage or configuration, nothing was started, or rows
cannot be written and the run ended, or what a command was to print cannot be; 3 `compare --strict`,
`trend --strict` or `accept` is undecided; 130 interrupted by a signal, rows kept.

Nobody has to read what a command prints (see `outputs`), and a run never depends on it.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from functools import partial
from typing import TYPE_CHECKING

from raybench import gc_control
from raybench.cli import help as pages
from raybench.cli.outputs import Outputs
from raybench.config.words import refuse_unwritable, shown
from raybench.errors import ConfigError, RaybenchError, UsageError, nearest
from raybench.execute.signals import INTERRUPTED, Signals
from raybench.text import printable
from raybench.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable


_LONGEST = 1500
_HELP = ("-h", "--help", "help")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the words after the program's name; None takes those of this process.
    """
    if arguments is not None:
        return _run(list(arguments))
    signals, outputs = Signals.of_process(), Outputs()
    code = _run(words := sys.argv[1:])
    if signals.received and code != INTERRUPTED:  # a library has dropped the exception
        _say("interrupted.")
        code = INTERRUPTED
    if (problem := outputs.problem()) is not None:
        measured = _page(words) is None and _verb(words) == "run"
        _say(f"the output cannot be written: {problem}." + " Rows are kept." * measured)
        code = code or (0 if measured else 2)
    signals.ended = True
    return code


def _run(words: list[str]) -> int:
    """Run a command and return its exit code."""
    try:
        if (page := _page(words)) is not None:
            print(page, end="")
            return 0
        verb = _verb(words)
        settings = words[words[0] == verb :]
        late = next((word for word in settings if word in VERBS), None)
        if late is not None and len(settings) == len(words):
            raise ConfigError(
                f"The verb {late!r} comes first. Write: raybench {late} key=value ..."
            )
        for word in settings:
            refuse_unwritable(word)
        _refuse_unknown(verb)
        return VERBS[verb](settings)
    except UsageError as error:
        _say(_sentence(error))
        return 2
    except RaybenchError as error:
        _say(_sentence(error))
        return 1
    except KeyboardInterrupt:
        kept = "; rows that were written are kept" if _verb(words) == "run" else ""
        _say(f"interrupted{kept}.")
        return INTERRUPTED


def _verb(words: list[str]) -> str:
    """Return the verb of a command; settings alone are those of a run."""
    is_setting = not words or "=" in words[0] or words[0].startswith("-")
    return "run" if is_setting else words[0]


def _say(sentence: object) -> None:
    print(f"raybench: {sentence}", file=sys.stderr)


def _sentence(error: RaybenchError) -> str:
    """Return a message on one line, without the middle of a value that fills the screen."""
    text = printable(error)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 400]} ... {text[-400:]}"


def _page(words: list[str]) -> str | None:
    """Return the page that is asked for, or the version; None when a command is to be run.

    Raises:
        ConfigError: for the page of a verb that does not exist.
    """
    if words and words[0] in ("-V", "--version"):
        return f"{__version__}\n"
    asks = {"-h", "--help"} & set(words) or "help" in (words[0], *words[1:2]) if words else True
    if not asks:
        return None
    verb = next((word for word in words if word not in _HELP), "")
    if verb and "=" not in verb:
        _refuse_unknown(verb)
    return pages.VERBS.get(verb) or pages.PROGRAM.format(version=__version__)


def _refuse_unknown(verb: str) -> None:
    if verb not in VERBS:
        from raybench.config.files import meant_by  # heavy, and needed for this sentence alone

        meant = meant_by(verb)
        advice = f"{meant} " if meant else ""
        raise ConfigError(f"Unknown verb {shown(verb)}. {advice}{nearest(verb, VERBS)}")


def _run_verb(verb: str, words: list[str]) -> int:
    """Import the module of a verb, which may be slow, and run its `command`."""
    with gc_control.paused():  # modules do not become garbage
        module = importlib.import_module(f"raybench.cli.{verb}")
    with warnings.catch_warnings():
        warnings.showwarning = _print_warning
        return int(module.command(words))


def _print_warning(
    message: Warning | str, category: type[Warning], *where: object, **more: object
) -> None:
    """Print a warning of raybench as its errors are printed, without a place in its code."""
    print(f"raybench: {printable(message)}", file=sys.stderr)


VERBS: dict[str, Callable[[list[str]], int]] = {
    verb: partial(_run_verb, verb)
    for verb in (
        "run",
        "plan",
        "build",
        "list",
        "doctor",
        "show",
        "compare",
        "trend",
        "accept",
        "baseline",
        "report",
        "clean",
    )
}

"""Interpolation in the values of a file: `${other.key}` and `${oc.env:NAME}`, followed by OmegaConf.

OmegaConf gets both with resolvers of our own, so that `oc.env` stays as it is for other users of
OmegaConf in this process and none of its other resolvers is within reach of a file.
"""

from __future__ import annotations

import os
import re
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError

from raybench.config.places import kind_at
from raybench.config.words import shown
from raybench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from omegaconf.errors import OmegaConfBaseException

OPEN_VARIABLES = (
    "HOME", "USER", "LOGNAME", "HOSTNAME", "TMPDIR", "SCRATCH", "WORK",
    "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID",
    "SLURM_CLUSTER_NAME", "SLURM_NNODES", "SLURM_NODEID", "SLURM_PROCID", "PBS_JOBID", "LSB_JOBID",
)  # fmt: skip
"""Variables that a file may read, with those that begin with RAYBENCH_; values are stored and shown."""
_OWN = "RAYBENCH_"
_PIECE = re.compile(r"(?P<backslashes>\\*)\$\{(?:(?P<name>[^${}]*)\})?")
_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
_ENVIRONMENT = re.compile(r"oc\.env:\s*(?P<variable>\w+)\s*(?:,\s*(?P<default>.*))?")
_ENV, _SINGLE, _TYPED = "raybench.env", "raybench.single", "raybench.typed"
_OPENING = re.compile(r"(\\*)\$\{")
_ABSENT = re.compile(r"\\*\?\?\?")
_RAISED = " raised while resolving interpolation: "


class Template(str):
    """A value of a file that holds `${`."""

    __slots__ = ()


def literal(text: str) -> str:
    """Return a text as OmegaConf must get it to hand it on unchanged."""
    if _ABSENT.fullmatch(text):  # ??? is a value that is missing
        return f"\\{text}"
    return _OPENING.sub(r"\1\1\\${", text)


def interpolated(template: Template, where: str, *, typed: bool = False) -> str:
    """Return a value of a file as OmegaConf must get it to follow its references.

    Args:
        template: as written.
        where: key and file, for messages.
        typed: whether to read a number in what a variable holds, for a key of any type.

    Raises:
        ConfigError: for what is neither a key nor a variable, and for a section.
    """
    whole = template.startswith("${") and _PIECE.fullmatch(template)

    def piece(match: re.Match[str]) -> str:
        if len(match["backslashes"]) % 2:
            return match[0]
        reference = _reference(match["name"], template, where)
        if whole:
            return f"${{{_TYPED}:{reference}}}" if typed else reference
        return f"{match['backslashes']}${{{_SINGLE}:{reference}}}"

    return _PIECE.sub(piece, template)


def _reference(name: str | None, template: str, where: str) -> str:
    """Return one reference with the resolver that follows it."""
    if name is None:
        raise _refused(where, template, "has a ${ that is not closed. Close it, or write \\${")
    variable = _ENVIRONMENT.fullmatch(name.strip())
    if variable:
        default = variable["default"]
        given = f",{_quoted(default)}" if default else ""
        return f'${{{_ENV}:"{variable["variable"]}"{given}}}'
    key = name.strip()
    if not _KEY.fullmatch(key):
        what = "refers to neither a key nor a variable. Write ${KEY} or ${oc.env:NAME}"
        raise _refused(where, template, what)
    try:
        kind = kind_at(tuple(key.split(".")))
    except KeyError:
        raise _refused(where, template, "refers to a key that does not exist. Correct it") from None
    if is_dataclass(kind):
        raise _refused(where, template, "refers to a section. Name one of its keys")
    return f"${{{key}}}"


def _quoted(default: str) -> str:
    """Return the default of a variable in quotes, whatever signs it holds."""
    if len(default) > 1 and default[0] == default[-1] and default[0] in "\"'":
        return default
    escaped = re.sub(r'(\\*)(?="|$)', r"\1\1", default)
    return '"' + escaped.replace('"', '\\"') + '"'


# ---------------------------------------------------------------- resolvers


def register(guess: Callable[[str], Any]) -> None:
    """Make the resolvers of files known to OmegaConf.

    Args:
        guess: returns the value that a text stands for, for keys of any type.
    """

    def typed(value: Any) -> Any:
        return guess(value) if isinstance(value, str) else value

    for name, resolver in ((_ENV, _environment), (_SINGLE, _single), (_TYPED, typed)):
        OmegaConf.register_resolver(name, resolver, replace=True)


def _environment(name: str, default: str | None = None) -> str:
    if not name.startswith(_OWN) and name not in OPEN_VARIABLES:
        raise LookupError(
            f"reads the variable {name!r}, and files may read {', '.join(OPEN_VARIABLES)} and those "
            f"that begin with {_OWN} alone. Export it as {_OWN}{name}"
        )
    value = os.environ.get(name) or default
    if not value:
        raise LookupError(f"reads the variable {name!r}, which is not set. Export it")
    return value


def _single(value: Any) -> str:
    if value is None or OmegaConf.is_config(value):
        raise LookupError("puts what is no single value into a text. Name another key")
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---------------------------------------------------------------- refusals


def broken_reference(error: OmegaConfBaseException, source: str) -> ConfigError:
    """Return the refusal of settings that OmegaConf could not resolve.

    Args:
        error: as OmegaConf raised it.
        source: the file that holds the reference.
    """
    reason = str(error).splitlines()[0].rstrip(".")
    if error.parent_node is None:
        return ConfigError(
            f"A reference in {source} leads to what its key does not take: {reason}. Correct it."
        )
    where = f"{error.full_key} in {source}"
    if isinstance(error, InterpolationKeyError):
        what = "refers to a key that does not exist. Correct it"
    elif "Recursive" in reason:
        what = "refers to itself in a circle. Give one of them a value"
    elif _RAISED in reason:
        what = reason.partition(_RAISED)[2]
    else:
        return ConfigError(f"{where}: {reason}. Correct the value.")
    return _refused(where, _template_of(error), what)


def _template_of(error: OmegaConfBaseException) -> str:
    """Return the text that could not be resolved, as the file holds it."""
    content: Any = OmegaConf.to_container(error.parent_node, resolve=False)
    text = str(content[error.key])
    for name in (_SINGLE, _TYPED):
        text = re.sub(rf"\$\{{{name}:(\$\{{[^}}]*\}})\}}", r"\1", text)
    return text.replace(_ENV, "oc.env")


def _refused(where: str, template: str, what: str) -> ConfigError:
    return ConfigError(f"{where}: {shown(str(template))} {what}.")

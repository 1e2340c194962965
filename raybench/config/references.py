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
from raybench.config.words import refuse_unwritable, shown
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
_ENV, _PART = "raybench.env", "raybench.part"
ITEM, TYPED = "raybench.item", "raybench.typed"
"""Resolvers for a reference within a list or mapping, and for one whose value is read by its look."""
_LONGEST = 4096
_IN_QUOTES = re.compile(r"""\s*(?:"[^"\\]*"|'[^'\\]*')\s*""")
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


def interpolated(template: Template, where: str, resolver: str = "") -> str:
    """Return a value of a file as OmegaConf must get it to follow its references.

    Args:
        template: as written.
        where: key and file, for messages.
        resolver: what a reference goes through that is the whole value; nothing for what the key's
            type checks.

    Raises:
        ConfigError: for what is neither a key nor a variable, and for a section.
    """
    whole = template.startswith("${") and _PIECE.fullmatch(template)

    def piece(match: re.Match[str]) -> str:
        if len(match["backslashes"]) % 2:
            return match[0]
        reference = _reference(match["name"], template, where)
        if whole:
            return f"${{{resolver}:{reference}}}" if resolver else reference
        return f"{match['backslashes']}${{{_PART}:{reference}}}"

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
    if _IN_QUOTES.fullmatch(default):
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
        return guess(value) if isinstance(value, str) else _item(value)

    resolvers: dict[str, Callable[..., Any]] = {
        _ENV: _environment,
        _PART: _part,
        ITEM: _item,
        TYPED: typed,
    }
    for name, resolver in resolvers.items():
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
    try:
        refuse_unwritable(value, name)
    except ConfigError as error:
        raise LookupError(f"reads a variable: {str(error).rstrip('.')}") from error
    return value


def _item(value: Any) -> Any:
    """Return a value that is no list or mapping: lists of lists of references would grow for ever."""
    if value is None or OmegaConf.is_config(value):
        raise LookupError("refers to what is no single value. Name another key")
    return value


def _part(value: Any) -> str:
    """Return a value as part of a text."""
    text = str(_item(value))
    if len(text) > _LONGEST:
        raise LookupError(f"refers to over {_LONGEST} characters. Write a shorter value")
    return text.lower() if isinstance(value, bool) else text


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
    elif "Recursive" in reason or "parent node" in reason:
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
    for name in (_PART, ITEM, TYPED):
        text = re.sub(rf"\$\{{{name}:(\$\{{[^}}]*\}})\}}", r"\1", text)
    return re.sub(rf'\$\{{{_ENV}:"(\w+)"', r"${oc.env:\1", text)


def _refused(where: str, template: str, what: str) -> ConfigError:
    return ConfigError(f"{where}: {shown(str(template))} {what}.")

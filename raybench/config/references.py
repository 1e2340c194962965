"""References in the values of a file: `${other.key}` and `${oc.env:NAME}`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from raybench.config.words import shown
from raybench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OPEN_VARIABLES = (
    "HOME", "USER", "LOGNAME", "HOSTNAME", "TMPDIR", "SCRATCH", "WORK",
    "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID",
    "SLURM_CLUSTER_NAME", "SLURM_NNODES", "SLURM_NODEID", "SLURM_PROCID", "PBS_JOBID", "LSB_JOBID",
)  # fmt: skip
"""Variables that a file may read, with those that begin with RAYBENCH_; values are stored and shown."""
_OWN = "RAYBENCH_"
_PIECE = re.compile(r"\\\$\{|\$\{([^${}]*)\}|\$\{")
_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
_ENVIRONMENT = re.compile(r"oc\.env:\s*(\w+)\s*(?:,\s*(.*))?")


class Template(str):
    """A value of a file that holds `${`."""

    __slots__ = ()


@dataclass(frozen=True)
class Reference:
    """A value that follows when all layers are merged.

    Attributes:
        template: as written.
        where: key and file, for messages.
        convert: turns what it stands for into the type of its key.
    """

    template: str
    where: str
    convert: Callable[[Any], Any]

    @override
    def __str__(self) -> str:
        return self.template


def resolve(tree: Any) -> Any:
    """Return the merged settings with every reference replaced by what it stands for.

    Raises:
        ConfigError: for a key that does not exist, a circle, or a variable that may not be read.
    """
    return _Resolver(tree).walk(tree, ())


@dataclass(frozen=True)
class _Resolver:
    """Looks references up in a tree of settings."""

    tree: Mapping[str, Any]

    def walk(self, node: Any, open_ones: tuple[str, ...]) -> Any:
        """Return a part of the tree without references.

        Args:
            node: the part.
            open_ones: keys that are being looked up, to find circles.
        """
        if isinstance(node, dict):
            return {key: self.walk(value, open_ones) for key, value in node.items()}
        if isinstance(node, list):
            return [self.walk(value, open_ones) for value in node]
        if isinstance(node, Reference):
            return node.convert(self._value(node, open_ones))
        return node

    def _value(self, reference: Reference, open_ones: tuple[str, ...]) -> Any:
        template = reference.template
        whole = _PIECE.fullmatch(template)
        if whole and whole[1] is not None:
            return self._found(whole[1], reference, open_ones)
        return _PIECE.sub(lambda piece: self._text(piece, reference, open_ones), template)

    def _text(self, piece: re.Match[str], reference: Reference, open_ones: tuple[str, ...]) -> str:
        if piece[0].startswith("\\"):
            return "${"
        if piece[1] is None:
            raise _refused(reference, "has a ${ that is not closed. Close it, or write \\${")
        value = self._found(piece[1], reference, open_ones)
        if isinstance(value, (list, dict)) or value is None:
            raise _refused(
                reference, f"puts {piece[1]}, which is no single value, into a text. Name another"
            )
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _found(self, name: str, reference: Reference, open_ones: tuple[str, ...]) -> Any:
        variable = _ENVIRONMENT.fullmatch(name.strip())
        if variable:
            return _environment(variable[1], variable[2], reference)
        key = name.strip()
        if not _KEY.fullmatch(key):
            raise _refused(
                reference, "refers to neither a key nor a variable. Write ${KEY} or ${oc.env:NAME}"
            )
        if key in open_ones:
            raise _refused(reference, "refers to itself in a circle. Give one of them a value")
        node: Any = self.tree
        for part in key.split("."):
            if not isinstance(node, dict) or part not in node:
                raise _refused(reference, "refers to a key that does not exist. Correct it")
            node = node[part]
        if isinstance(node, dict):
            raise _refused(reference, "refers to a section. Name one of its keys")
        return self.walk(node, (*open_ones, key))


def _environment(name: str, default: str | None, reference: Reference) -> str:
    if not name.startswith(_OWN) and name not in OPEN_VARIABLES:
        raise _refused(
            reference,
            f"reads the variable {name!r}, and files may read {', '.join(OPEN_VARIABLES)} and those "
            f"that begin with {_OWN} alone. Export it as {_OWN}{name}",
        )
    value = os.environ.get(name) or default
    if not value:
        raise _refused(reference, f"reads the variable {name!r}, which is not set. Export it")
    return value


def _refused(reference: Reference, what: str) -> ConfigError:
    return ConfigError(f"{reference.where}: {shown(reference.template)} {what}.")

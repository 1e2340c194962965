"""YAML files as text, lists and mappings: no value changes, no tag works, no file is too much."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING, Any

import yaml

from raybench.config.references import Template
from raybench.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 256 * 1024
MOST_VALUES = 20_000
_DEEPEST = 20
_MERGE = "<<"
_QUOTED = re.compile(r"\s*(?:'[^']*'|\"[^\"]*\")")
_CUT_OFF = re.compile(r",? but (found|got)$")


class Key(str):
    """A key of a file, with its line and column.

    Attributes:
        position: "line 3, column 5".
    """

    __slots__ = ("position",)
    position: str


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        ConfigError: when it is no regular file, too large, unreadable or not UTF-8.
    """
    try:
        # a pipe without a writer would not open, and a device would not end
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ConfigError(f"{path} is not a regular file. Give the path of a YAML file.")
            data = file.read(MOST_BYTES + 1)
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder. Give the path of a YAML file in it.") from None
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO)
        raise ConfigError(f"{path} cannot be read: {reason}. Give a file that can be.") from error
    if len(data) > MOST_BYTES:
        raise ConfigError(
            f"{path} is larger than {MOST_BYTES // 1024} KiB, which no experiment is. Give a YAML file."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path} is not UTF-8 text at line {line}. Save it as UTF-8.") from None


def first_comment(text: str) -> str:
    """Return what a text that begins with a comment says in its first line, else nothing."""
    line = text.split("\n", 1)[0].strip()
    return line.lstrip("# ").strip() if line.startswith("#") else ""


def read_yaml(path: Path, text: str) -> Any:
    """Return the content of YAML: every value is text as written, or None where it is empty.

    Args:
        path: its file, for messages. What the file holds is not repeated in them: it may be another
            file than was meant.
        text: the YAML.

    Raises:
        ConfigError: for broken YAML, tags, keys that repeat, and content out of all proportion.
    """
    loader: Any = None
    try:
        loader = _TextLoader(text)
        node = loader.get_single_node()
        return None if node is None else _TreeReader(path).read(node, 0)
    except yaml.MarkedYAMLError as error:
        raise _broken(path, error.problem_mark, _problem(error)) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ConfigError(
            f"{path} is not readable YAML: line {line} holds a control character. Correct the file."
        ) from None
    except (RecursionError, ValueError):
        raise ConfigError(f"{path} is not readable YAML: it is nested too deeply.") from None
    finally:
        if loader is not None:
            loader.dispose()


class _TextLoader(yaml.SafeLoader):
    """Finds no types in plain text: 007, yes, 1_000 and 2026-11-28 stay what they are."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as the base class declares it


class _TreeReader:
    """Turns the nodes of one file into text, lists and mappings."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values = 0

    def read(self, node: yaml.Node, depth: int) -> Any:
        """Return the content of a node."""
        self._values += 1
        if self._values > MOST_VALUES or depth > _DEEPEST:
            raise _broken(
                self._path, node.start_mark, f"it holds over {MOST_VALUES} values, or is too deep"
            )
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.rpartition(":")[2] not in (
            "str", "seq", "map",
        ):  # fmt: skip
            raise _broken(self._path, node.start_mark, "tags are not taken")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, depth + 1) for item in node.value]
        return self._mapping(node, depth)

    def _mapping(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _broken(self._path, key_node.start_mark, "a key is a list or a mapping")
            value = self.read(value_node, depth + 1)
            if key_node.value == _MERGE and key_node.style is None:
                for part in value if isinstance(value, list) else [value]:
                    if not isinstance(part, dict):
                        raise _broken(self._path, key_node.start_mark, "<< takes a mapping")
                    merged = {**part, **merged}
                continue
            key = Key(key_node.value)
            key.position = _position(key_node.start_mark)
            if key in own:
                raise _broken(self._path, key_node.start_mark, "a key stands there twice")
            own[key] = value
        return {**merged, **own}


def _problem(error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong without what the file holds: signs alone are quoted, such as ':'."""
    text = _QUOTED.sub(
        lambda found: "" if any(map(str.isalnum, found[0])) else found[0],
        error.problem or "it is broken",
    )
    return _CUT_OFF.sub("", text)


def _scalar(node: yaml.ScalarNode) -> str | None:
    value = str(node.value)
    if not value and node.style is None:
        return None
    return Template(value) if "${" in value else value


def _position(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


def _broken(path: Path, mark: Any, what: str) -> ConfigError:
    place = f" at {_position(mark)}" if mark is not None else ""
    return ConfigError(f"{path} is not readable YAML{place}: {what}. Correct the file.")

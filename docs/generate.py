"""Write the reference pages that are made from the code: configuration, columns, flags, commands.

python docs/generate.py writes them; tests/test_docs.py fails when a committed page differs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import os
import re
import types
import typing
from pathlib import Path
from typing import Any

import yaml

from raybench.cli import main as command_line
from raybench.config.settings import Settings
from raybench.engines import registry
from raybench.experiment import AXES
from raybench.measure.flags import FLAGS
from raybench.results import schema
from raybench.results.columns import COLUMNS, ColumnDefinition

DOCS = Path(__file__).parent
CONF = DOCS.parent / "conf"
NOTE = (
    "<!-- Written by docs/generate.py from the code. Change the code, then run `make docs`. -->\n"
)

TABLES = {
    "trials": "One row for each point and trial: what most questions need.",
    "workers": "One row for each worker of a trial.",
    "blocks": "One row for each block of a worker's stream, warm-up included.",
    "samples": "One row for each batch; written with `results.samples=all`.",
    "layers": "One row for each layer of the model; written with `results.layers=true`.",
    "soak": "One row for each worker and interval of a soak, written when the interval ends.",
    "events": "One row for each event of a soak: XID, ECC, throttling, stalls, with its time.",
    "environment": "One row for each node and GPU of a run.",
}
VERBS = (
    "run",
    "plan",
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


def pages() -> dict[Path, str]:
    """Return the text of every generated page by its path."""
    folder = DOCS / "reference"
    return {
        folder / "configuration.md": configuration(),
        folder / "columns.md": columns(),
        folder / "flags.md": flags(),
        folder / "command-line.md": command_line_page(),
    }


# ---------------------------------------------------------------- columns


def columns() -> str:
    """Return the page of every table and column, from raybench/results/columns.py."""
    parts = [
        NOTE,
        "# Columns\n",
        f"Schema version {schema.SCHEMA_VERSION}. Columns are only ever added; a changed unit or meaning "
        "gets a new name. Unknown is null, never 0. A column marked *reserved* is not used "
        "yet: it is null, or the same in every row.\n",
        f"`status` is one of {_list(schema.STATUSES)}. The outcomes {_list(schema.OUTCOMES)} answer the "
        f"question, with a number or with the reason why there is none; the failures "
        f"{_list(schema.FAILURES)} leave it open. `verdict` is one of {_list(schema.VERDICTS)}.\n",
    ]
    for name, definitions in COLUMNS.items():
        parts += [
            f"## {name}\n",
            f"{TABLES[name]}\n",
            "| column | type | unit | meaning |\n|---|---|---|---|",
        ]
        parts += [_column(column) for column in definitions]
        parts.append("")
    return "\n".join(parts)


def _column(column: ColumnDefinition) -> str:
    reserved = "*Reserved.* " if column.reserved else ""
    meaning = reserved + _cell(column.description)
    return f"| `{column.name}` | `{column.type}` | {column.unit} | {meaning} |"


# ---------------------------------------------------------------- flags


def flags() -> str:
    """Return the page of every flag by its effect on the verdict, from raybench/measure/flag_rules.py."""
    groups = {
        "blocking": "Blocking: the row is `unstable`",
        "target_missed": "Target missed: the row is `unstable`",
        "information": "Information: the verdict stays",
    }
    parts = [
        NOTE,
        "# Flags\n",
        "A flag names something that the measurement itself shows. What cannot be read (a virtual machine shows "
        "neither clocks nor energy) is null and raises nothing. The column `advice` says what to do about a row "
        "that is `unstable`; [How raybench measures](../method.md) explains the words.\n",
    ]
    for group, title in groups.items():
        parts += [f"## {title}\n", "| flag | meaning |\n|---|---|"]
        parts += [
            f"| `{x.name}` | {_cell(x.meaning)} |" for x in FLAGS.values() if x.group == group
        ]
        parts.append("")
    return "\n".join(parts)


# ---------------------------------------------------------------- configuration


def configuration() -> str:
    """Return the page of every key, from the settings' docstrings, their defaults and conf/."""
    parts = [
        NOTE,
        "# Configuration\n",
        "Every key can stand in an experiment file (nested) and on the command line (dotted: "
        "`measure.max_s=60`). Later layers win:\n",
        "1. `conf/config.yaml`: the defaults\n"
        "2. `conf/device/cpu.yaml` or `conf/device/gpu.yaml`: sizes that suit the device\n"
        "3. `conf/cluster/NAME.yaml`, when `cluster=NAME` is given\n"
        "4. `conf/preset/NAME.yaml`: how long and how exactly to measure\n"
        "5. the experiment file\n"
        "6. the command line\n",
        "Unknown keys are refused, and the message offers the nearest one; a key is given once. What a key takes "
        "decides how its value is read ([How words are read](../experiments.md#how-words-are-read)). *Not set* is "
        "`null` in words and files, and None in Python.\n",
        "## Axes\n",
        f"The axes are {_list(AXES)}. An axis takes one value or a list, under `grid:` or at the top level: "
        "`engine=openvino` is `grid.engine=[openvino]`. [Experiments](../experiments.md) explains their "
        "values.\n",
    ]
    settings = Settings
    nested = {
        field.name: kind
        for field, kind in _typed_fields(settings)
        if dataclasses.is_dataclass(kind) and field.name != "grid"
    }
    parts += ["| axis | default |\n|---|---|"]
    parts += [f"| `{axis}` | {_value(_yaml('config')['grid'].get(axis))} |" for axis in AXES]
    parts += ["", "## Top level\n", *_settings_table(settings, "", skip={*nested, "grid"})]
    for name, kind in nested.items():
        parts += [f"## {name}\n", f"{_first_line(kind)}\n"]
        parts += _preset_table(kind) if name == "measure" else _settings_table(kind, f"{name}.")
    parts += ["## engine\n", "Options of the engine that runs, as `engine.OPTION=VALUE`.\n"]
    for name in registry.BUILT_IN:
        parts += [f"### {name}\n", *_settings_table(registry.get(name).traits.settings, "engine.")]
    return "\n".join(parts)


def _settings_table(settings: type, prefix: str, skip: set[str] | None = None) -> list[str]:
    described = _attributes(settings)
    skip = (skip or set()) | ({"engine"} if prefix == "" else set())
    rows = ["| key | type | default | meaning |\n|---|---|---|---|"]
    for field, kind in _typed_fields(settings):
        if field.name not in skip:
            shown = f"| `{prefix}{field.name}` | {_type(kind)} | {_default(field, prefix)} "
            rows.append(f"{shown}| {_cell(described.get(field.name, ''))} |")
    return [*rows, ""]


def _preset_table(settings: type) -> list[str]:
    """Return the measuring keys with their value in each preset."""
    presets = ("quick", "standard", "publish")
    values = {name: _yaml(f"preset/{name}")["measure"] for name in presets}
    described = _attributes(settings)
    rows = [f"| key | {' | '.join(presets)} | meaning |\n|---|{'---|' * len(presets)}---|"]
    for field, _ in _typed_fields(settings):
        shown = " | ".join(_value(values[name].get(field.name, field.default)) for name in presets)
        rows.append(f"| `measure.{field.name}` | {shown} | {_cell(described[field.name])} |")
    trials = ", ".join(f"{name} {_yaml(f'preset/{name}')['trials']}" for name in presets)
    return [*rows, "", f"The presets also set `trials`: {trials}.\n"]


def _default(field: Any, prefix: str) -> str:
    """Return the default as a user meets it: conf/ first, then the dataclass."""
    kinds = {kind: _yaml(f"device/{kind}") for kind in ("cpu", "gpu")}
    per_kind = {kind: _lookup(content, prefix + field.name) for kind, content in kinds.items()}
    if any(value is not None for value in per_kind.values()):
        own = _own_default(field)
        return ", ".join(
            f"{kind}: {_value(per_kind[kind]) if per_kind[kind] is not None else own}"
            for kind in per_kind
        )
    shared = _lookup(_yaml("config"), prefix + field.name)
    return _value(shared) if shared is not None else _own_default(field)


def _own_default(field: Any) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return _value(field.default_factory())
    return _value(field.default)


def _lookup(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def _yaml(name: str) -> Any:
    return yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value != {} and value != [] else "empty"


def _type(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(kind))
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join(_type(part) for part in typing.get_args(kind) if part is not type(None))
    names = {
        int: "whole number",
        float: "number",
        bool: "`true` or `false`",
        str: "text",
        Any: "any",
    }
    origin = {list: "list", dict: "mapping"}.get(typing.get_origin(kind))
    return names.get(kind) or origin or getattr(kind, "__name__", str(kind))


def _typed_fields(settings: type) -> list[tuple[Any, Any]]:
    hints = typing.get_type_hints(settings)
    return [(field, hints[field.name]) for field in dataclasses.fields(settings)]


def _attributes(settings: type) -> dict[str, str]:
    """Return the meaning of each field, from the section Attributes of the docstring."""
    _, _, section = (inspect.getdoc(settings) or "").partition("Attributes:\n")
    section = re.sub(r"\n {6,}", " ", section)
    return {
        match[1]: match[2].strip()
        for match in re.finditer(r"^ {4}(\w+): (.*)$", section, re.MULTILINE)
    }


def _first_line(described: type) -> str:
    return (inspect.getdoc(described) or "").splitlines()[0]


# ---------------------------------------------------------------- command line


def command_line_page() -> str:
    """Return the page with the program's own help: the overview, then each verb."""
    parts = [
        NOTE,
        "# Command line\n",
        "`raybench` and `python -m raybench` are the same program. The exit code is 0 when every point has a "
        "final row and none failed, 1 when some failed, `compare` or `trend` found a regression or "
        "`accept` rejected a device, 2 when the request "
        "was refused and nothing was started or when rows cannot be written any more, 3 when "
        "`compare --strict`, `trend --strict` or `accept` is undecided, and 130 after an interrupt, with the rows kept.\n",
    ]
    overview = _help()
    parts.append(f"```text\n{overview}```\n")
    for verb in VERBS:
        text = _help(verb)
        if text != overview:
            parts.append(f"## {verb}\n\n```text\n{text}```\n")
    return "\n".join(parts)


def _help(*verb: str) -> str:
    """Return what `raybench VERB --help` prints, 100 columns wide and without colour."""
    before = dict(os.environ)
    os.environ.update(COLUMNS="100", NO_COLOR="1")
    written = io.StringIO()
    try:
        with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
            command_line.main([*verb, "--help"])
    finally:
        os.environ.clear()
        os.environ.update(before)
    return written.getvalue()


# ---------------------------------------------------------------- text


def _list(names: Any) -> str:
    quoted = [f"`{name}`" for name in names]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _cell(text: str) -> str:
    """Return a text as it may stand in a table: no bars, capital first."""
    return (text[:1].upper() + text[1:]).replace("|", "\\|")


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")

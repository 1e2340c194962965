"""Section on the environments: facts as rows, environments as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.analysis.series import device_name
from raybench.report import columns
from raybench.report.document import Section
from raybench.report.formatting import number
from raybench.report.sections.sentences import missing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raybench.report.analyses import Answers

_HIDDEN = ("run_id", "environment_id", "schema_version", "node_id", "topology_json", "gpu_uuid")


def environment(answers: Answers) -> Section:
    """Return a table with a column for each environment that has rows."""
    used = {entry.series.environment_id for entry in answers.scaling.entries}
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in answers.source.environment.to_pylist():
        if row["environment_id"] in used:
            groups.setdefault(row["environment_id"], []).append(row)
    gaps = missing(
        f"No facts are stored of environment {name}."
        for name in sorted(str(name)[:8] for name in used - groups.keys())
    )
    if not groups:
        return Section("environment", "Environment", gaps)
    facts = [name for name in answers.source.environment.column_names if name not in _HIDDEN]
    values = {
        fact: [_distinct(_written(fact, row.get(fact)) for row in rows) for rows in groups.values()]
        for fact in facts
    }
    kept = [fact for fact in facts if any(values[fact])]
    table = columns.table(
        "environments",
        "Facts of each environment, by the beginning of its id; values of several hosts or devices "
        "stand beside each other.",
        columns.texts("fact", [fact.replace("_", " ") for fact in kept]),
        *(
            columns.texts(name[:8], [values[fact][k] for fact in kept])
            for k, name in enumerate(groups)
        ),
    )
    return Section("environment", "Environment", [table, *gaps])


def _distinct(texts: Iterable[str]) -> str:
    return ", ".join(text for text in dict.fromkeys(texts) if text)


def _written(fact: str, value: Any) -> str:
    if value is None or value == []:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(f"{name}={word}" for name, word in value)
    if fact == "device":
        return ", ".join(map(device_name, str(value).split(", ")))
    return number(value) if isinstance(value, float) else str(value)

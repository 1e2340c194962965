"""Which points of two tables can be compared, and refusals where they cannot."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

from raybench.analysis.cells import METRICS, Cell
from raybench.analysis.series import SERIES, Series, without
from raybench.errors import ComparisonRefused, ConfigError, nearest
from raybench.experiment import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

Key: TypeAlias = tuple[Series, "int | None"]
"""What makes a point on both sides: factors that may differ are None."""
Names: TypeAlias = tuple[str, str]
"""What the two sides are called."""
Tables: TypeAlias = "tuple[pa.Table | None, pa.Table | None]"

_LIBRARIES = ("tensorrt_version", "onnxruntime_version", "openvino_version")
ALONG: dict[str, tuple[str, ...]] = {
    "device": ("driver_version", "cuda_driver_version", "cuda_runtime_version", "cpu_model"),
    "engine": ("engine_version", "engine_options"),
    "engine_version": _LIBRARIES,
    "environment_id": ENVIRONMENT,
}
"""What may differ along with a factor: another device has another driver."""
_WHOLE_SIDE = ("environment_id", "method_version")
"""Factors that are compared for a side as a whole, not point by point."""
FACTORS = ("workers", *SERIES)


def check(by: Sequence[str], metric: str, threshold: float) -> None:
    """Refuse unknown factors and metrics, and a threshold that is not a share between 0 and 1."""
    if metric not in METRICS:
        raise ConfigError(f"Unknown metric {metric!r}. {nearest(metric, METRICS)}")
    if not 0 <= threshold < 1:
        raise ConfigError(
            f"threshold={threshold} is not a share between 0 and 1. Write 0.01 for 1 %."
        )
    allowed = {*FACTORS, *ENVIRONMENT} - {"method_version"}
    for name in by:
        if name not in allowed:
            raise ConfigError(f"Unknown factor {name!r} in by=. {nearest(name, allowed)}")


def refuse_other_methods(a: Sequence[Cell], b: Sequence[Cell], names: Names) -> None:
    """Refuse sides of different methods or confidence levels: their numbers differ in meaning."""
    methods = [{cell.series.method_version for cell in side if cell.ok} for side in (a, b)]
    levels = [{cell.newest.get("ci_level") for cell in side if cell.ok} for side in (a, b)]
    for what, (of_a, of_b) in (("method_version", methods), ("ci_level", levels)):
        if len((of_a | of_b) - {None}) > 1:
            raise ComparisonRefused(
                f"{what} is {_listed(of_a)} in {names[0]} and {_listed(of_b)} in {names[1]}: what "
                "they measured is not the same. Measure one side again with the newer raybench."
            )


def ignored_factors(by: Sequence[str], a: Sequence[Cell], b: Sequence[Cell]) -> frozenset[str]:
    """Return the factors in which the cells of one point may differ.

    The environment is among them unless the sides share one: then each environment is compared
    with itself.
    """
    of_a, of_b = ({cell.series.environment_id for cell in side if cell.ok} for side in (a, b))
    always = {"method_version"} if of_a & of_b else set(_WHOLE_SIDE)
    return frozenset((_along(by) | always) & set(FACTORS))


def _along(by: Iterable[str]) -> set[str]:
    """Return the named factors and what may differ along with them."""
    names = set(by)
    for name in ("engine", "engine_version", "device", "environment_id"):  # engine adds version
        if name in names:
            names |= set(ALONG[name])
    return names


def _key(cell: Cell, ignored: frozenset[str]) -> Key:
    factors = [name for name in SERIES if name in ignored]
    return without(cell.series, *factors), None if "workers" in ignored else cell.workers


def good_points(cells: Sequence[Cell], ignored: frozenset[str], name: str) -> dict[Key, Cell]:
    """Return the cell with a number of each point; refuse two cells for the same point."""
    groups: dict[Key, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.ok:
            groups[_key(cell, ignored)].append(cell)
    for members in groups.values():
        if len(members) > 1:
            factor = next(f for f in FACTORS if len({_value(c, f) for c in members}) > 1)
            values = {_value(cell, factor) for cell in members}
            raise ComparisonRefused(
                f"{name} has {factor} {_listed(values)} for the same point. "
                f"Choose one of them: FOLDER:{factor}={_listed(values, 1)}"
            )
    return {key: members[0] for key, members in groups.items()}


def failed_points(
    cells: Sequence[Cell], ignored: frozenset[str], good: Mapping[Key, Cell]
) -> dict[Key, Cell]:
    """Return the cells of points that have no number on this side."""
    failed = {_key(cell, ignored): cell for cell in cells if not cell.ok}
    return {key: cell for key, cell in failed.items() if key not in good}


def refuse_disjoint(
    a: Mapping[Key, Cell], b: Mapping[Key, Cell], ignored: frozenset[str], names: Names
) -> None:
    """Refuse sides without a common point, and networks that only share their name."""
    shared = a.keys() & b.keys()
    same_name = () if "model" in ignored else shared  # by=model compares networks with each other
    identities = [
        tuple(side[key].newest.get("model_identity") for side in (a, b)) for key in same_name
    ]
    if any(of_a != of_b and None not in (of_a, of_b) for of_a, of_b in identities):
        raise ComparisonRefused(
            f"A network of one name is not the same in {names[0]} and {names[1]} "
            "(model_identity differs). Measure both sides with one model file or seed."
        )
    if shared:
        return
    apart = {}
    for factor in (name for name in FACTORS if name not in ignored and name not in _WHOLE_SIDE):
        of_a, of_b = ({_value(cell, factor) for cell in side.values()} for side in (a, b))
        if not of_a & of_b:
            apart[factor] = f"{factor} ({_listed(of_a)} against {_listed(of_b)})"
    if not apart:
        raise ComparisonRefused(
            f"{names[0]} and {names[1]} have no point in common. "
            "Measure the same experiment on both sides."
        )
    raise ComparisonRefused(
        f"{names[0]} and {names[1]} are not alike: they differ in {', '.join(apart.values())}. "
        f"If that is the question, add by={','.join(apart)}"
    )


def differences(
    a: Mapping[Key, Cell],
    b: Mapping[Key, Cell],
    by: Sequence[str],
    ignored: frozenset[str],
    environments: Tables,
    names: Names,
) -> tuple[tuple[str, str, str], ...]:
    """Return what differs between the sides as (factor, value in a, value in b).

    Raises:
        ComparisonRefused: the environments differ in something that `by` does not name.
    """
    shared = [key for key in a if key in b]
    both = [[side[key] for key in shared] for side in (a, b)]
    differing = []
    for factor in (name for name in FACTORS if name in ignored and name not in _WHOLE_SIDE):
        of_a, of_b = ({_value(cell, factor) for cell in side} for side in both)
        if of_a != of_b:
            differing.append((factor, _listed(of_a), _listed(of_b)))
    ids = [{cell.series.environment_id for cell in side} for side in both]
    if ids[0] == ids[1]:
        return tuple(differing)
    facts_a, facts_b = (
        _environment_facts(table, of_side) for table, of_side in zip(environments, ids, strict=True)
    )
    facts = [
        (name, _listed(facts_a.get(name, ())), _listed(facts_b.get(name, ())))
        for name in ENVIRONMENT
        if facts_a.get(name) != facts_b.get(name)
    ]
    allowed = _along(by)
    unexpected = [fact for fact in facts if fact[0] not in allowed]
    unknown = not (facts_a and facts_b)
    if unexpected or (unknown and not allowed & {"environment_id", "device", *ENVIRONMENT}):
        raise ComparisonRefused(_other_environment(unexpected, names))
    return (*differing, *facts)


def _other_environment(unexpected: Sequence[tuple[str, str, str]], names: Names) -> str:
    if not unexpected:
        return (
            f"{names[0]} and {names[1]} ran in different environments. "
            "If that is the question, add by=environment_id"
        )
    facts = ", ".join(f"{name} ({a} against {b})" for name, a, b in unexpected)
    return (
        f"{names[0]} and {names[1]} ran in environments that differ in {facts}. "
        f"If that is the question, add by={','.join(fact[0] for fact in unexpected)}"
    )


def _environment_facts(table: pa.Table | None, ids: set[str | None]) -> dict[str, set[Any]]:
    """Return the values of each fact over some environments; empty if there are no rows."""
    if table is None:
        return {}
    facts = [name for name in ENVIRONMENT if name in table.column_names]
    rows = table.select(["environment_id", *facts]).to_pylist()
    rows = [row for row in rows if row["environment_id"] in ids]
    return {name: {row[name] for row in rows} for name in facts} if rows else {}


def _value(cell: Cell, factor: str) -> Any:
    return cell.workers if factor == "workers" else getattr(cell.series, factor)


def _listed(values: Iterable[Any], most: int = 4) -> str:
    texts = sorted("none" if value is None else str(value) for value in values)
    more = f" and {len(texts) - most} more" if len(texts) > most > 1 else ""
    return ", ".join(texts[:most]) + more

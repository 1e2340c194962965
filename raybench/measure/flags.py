"""Flags of a trial, its verdict and its advice, from one table with a rule for each flag."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from raybench.measure.flag_rules import RULES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from raybench.measure.evidence import TrialEvidence
    from raybench.measure.flag_rules import FlagRule
    from raybench.measure.limits import Limits

OF_OUTPUTS = frozenset({"outputs_changed", "wrong_outputs", "reference_not_finite"})
"""Flags about what was computed: measuring again does not remove what they are about."""

FLAGS: Final[Mapping[str, FlagRule]] = MappingProxyType({rule.name: rule for rule in RULES})
"""Every flag that a row may carry, by name, the gravest first."""


def raised_flags(evidence: TrialEvidence) -> tuple[str, ...]:
    """Return the names of the flags that the evidence raises, in the order of `FLAGS`."""
    return tuple(rule.name for rule in FLAGS.values() if rule.raised(evidence))


def verdict(flags: Collection[str], best: str = "stable") -> str:
    """Return the verdict on a row that has a number: "stable", "unstable" or "unverified".

    Args:
        flags: of the row, each a name in `FLAGS`.
        best: the best verdict of the preset (`MeasureSettings.verdict_best`).
    """
    unstable = [flag for flag in flags if FLAGS[flag].group != "information"]
    return "unstable" if unstable else best


def advice(flags: Collection[str], evidence: TrialEvidence, limits: Limits) -> str | None:
    """Return one sentence on what to do about a row; None for a stable one without such a flag.

    The sentence addresses only the gravest flag, the first in the order of `FLAGS`.
    """
    for rule in FLAGS.values():
        if rule.name in flags and rule.advice is not None:
            return rule.advice(evidence, limits)
    if verdict(flags, limits.settings.verdict_best) == "stable":
        return None
    return "This preset shows the tool and vouches for nothing: use preset=standard."

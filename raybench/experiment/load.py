"""What is offered to the workers of a point: the next batch when one is done, or items at a rate."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from typing_extensions import override

CLOSED = "closed"
MOST_ITEMS_PER_S = 1e9
"""A higher rate is a slip: times are whole nanoseconds."""
MOST_SHARE = 2.0
TAKES = (
    "closed, poisson(RATE) or constant(RATE) in items/s of all workers together, or a share of the "
    "closed-loop capacity above 0 and up to 2, such as 0.8"
)
_WRITTEN = re.compile(r"(poisson|constant)\(\s*([0-9][0-9_]*(?:\.[0-9]*)?(?:[eE]\+?[0-9]+)?)\s*\)")


@dataclass(frozen=True)
class OfferedLoad:
    """What is offered to the workers of a point.

    Attributes:
        arrivals: "closed" offers the next batch when one is done; the others are open loop.
        items_per_s: rate of all workers together; None in closed loop, and for a share.
        share: of the closed-loop capacity; None for a rate.
    """

    arrivals: Literal["closed", "poisson", "constant"] = "closed"
    items_per_s: float | None = None
    share: float | None = None

    @property
    def is_open(self) -> bool:
        """Return whether items arrive at a rate of their own."""
        return self.arrivals != CLOSED

    @override
    def __str__(self) -> str:
        """Return the load as it is written: equal loads are equal texts."""
        if not self.is_open:
            return CLOSED
        if self.share is not None:
            return f"{self.share:.15g}"
        return f"{self.arrivals}({self.items_per_s:.15g})"


def parse_load(written: Any) -> OfferedLoad | None:
    """Return the load that a value of the axis stands for; None if it stands for none."""
    text = str(written).strip()
    if isinstance(written, bool):
        return None
    if text == CLOSED:
        return OfferedLoad()
    if match := _WRITTEN.fullmatch(text):
        rate = float(match[2])
        arrivals: Literal["poisson", "constant"] = (
            "poisson" if match[1] == "poisson" else "constant"
        )
        return OfferedLoad(arrivals, rate) if 0 < rate <= MOST_ITEMS_PER_S else None
    try:
        share = float(text)
    except ValueError:
        return None
    valid = math.isfinite(share) and 0 < share <= MOST_SHARE
    return OfferedLoad("poisson", share=share) if valid else None

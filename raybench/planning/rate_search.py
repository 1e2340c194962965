"""The search for the highest rate at which the workers keep a latency bound.

Pure and replayed: the same outcomes lead to the same question, so that a run that was interrupted
goes on from its rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from raybench.results.search_trials import AGAIN, CONFIRMING, MOST_STEPS

MOST_PROBES = 12
MOST_AGAIN = 4
"""Trials of a search that are asked again because something disturbed them, each once."""
CLOSE = 0.01
"""The bracket is closed when its ends differ by so much: the answer is its lower end."""
STEP = 0.01
"""The step down from a rate that was not confirmed. With 2 % a chance failure at the true rate left 5 % of
the searches in an M/M/1 queue more than 2 % below it (`benchmarks/rate_search.py`)."""
EVEN_STEPS = 4
"""So many steps down are of the same size, and each further one is twice the one before: where the machine
makes about as many items late at any rate, 1 % less changes nothing."""
HIGHEST, START, USUAL, LOWEST = 1.05, 0.775, 0.5, 0.025
"""Rates as shares of the closed-loop capacity: taken to break the bound, first, and the two that may open
a bracket. Where all rates up to the highest keep the bound, as after a closed loop that was disturbed, or up
to one that only a disturbance broke, the bracket is opened upwards."""


@dataclass(frozen=True)
class RateQuestion:
    """What the search wants to know next: is the bound kept at this rate?

    Attributes:
        items_per_s: offered to all workers together.
        trial: 0 for a probe; 1 to 3 confirm the answer.
        again: whether it was asked before, and something disturbed that trial.
    """

    items_per_s: float
    trial: int = 0
    again: bool = False

    @property
    def number(self) -> int:
        """The number of the trial in its row."""
        return self.trial + AGAIN * self.again


class TrialsAhead(NamedTuple):
    """The fewest and the most trials that a search still takes, if no answer has to step down."""

    least: int
    most: int


@dataclass(frozen=True)
class RateOutcome:
    """What a trial says of the bound.

    Attributes:
        met: whether it was surely kept or surely not; None where the sample does not decide.
        share: of the items that took longer; None where too few were served to say.
        slowed_by: what disturbed it and can have broken the bound.
        eased_by: what disturbed it and can have kept the bound.
    """

    met: bool | None
    share: float | None = None
    slowed_by: frozenset[str] = frozenset()
    eased_by: frozenset[str] = frozenset()

    @property
    def has_number(self) -> bool:
        """Whether it says anything of the rate."""
        return self.met is not None or self.share is not None


class RateSearch:
    """The search for one number of workers.

    It halves a bracket of two rates, one at which the bound is kept and one at which it is not, until
    they differ by 1 %, and confirms the lower one in three further trials: of all their items no more
    may take longer than the percentile allows, and no trial alone may surely break the bound. Where
    they do, the search steps down by 1 %, after four such steps by 2 %, 4 % and so on.

    A trial that something disturbed is asked again once, and the second one counts: a probe where the
    disturbance can have decided it, and a confirming trial whatever it found, as to ask only those
    again that broke the bound would flatter. What disturbs the second one too is how this machine is,
    and no reason to ask again until a trial is without it.

    Args:
        capacity_items_per_s: rate of the same workers in closed loop.
        allowed: share of the items that may take longer, e.g. 0.01 for p99.
        least_items_per_s: rate below which too few items arrive in a window to say.

    Attributes:
        kept: highest rate that was probed or confirmed and kept; None before there is one.
        broken: lowest rate that did not keep the bound, or is taken not to.
        probes: probes that have ended.
    """

    def __init__(
        self, capacity_items_per_s: float, allowed: float, least_items_per_s: float = 0.0
    ) -> None:
        self._capacity = capacity_items_per_s
        self._allowed = allowed
        self._least = least_items_per_s
        self._disturbed: tuple[RateQuestion, RateOutcome] | None = None
        self._lasting: frozenset[str] = frozenset()
        self._asked_again = 0
        self._ended = False
        self._shares: list[float] = []
        self._steps = 0
        self.kept: float | None = None
        self.broken = HIGHEST * capacity_items_per_s
        self._broken_by: frozenset[str] | None = None  # nothing was measured there
        self.probes = 0

    @property
    def answer(self) -> float | None:
        """The highest rate that was confirmed; None before, or where there is none."""
        return self.kept if len(self._shares) == CONFIRMING else None

    @property
    def failed(self) -> bool:
        """Whether the search has ended without an answer."""
        return self.question() is None and self.answer is None

    def question(self) -> RateQuestion | None:
        """Return what to measure next; None once the search has ended."""
        if self._ended or self._steps > MOST_STEPS or len(self._shares) == CONFIRMING:
            return None
        if self._disturbed is not None:
            return replace(self._disturbed[0], again=True)
        if self._probing and (rate := self._candidate()) is not None:
            return RateQuestion(rate)
        if self.kept is None:
            return None
        return RateQuestion(self.kept, len(self._shares) + 1)

    @property
    def why_again(self) -> frozenset[str]:
        """What disturbed the trial that is to be asked again; nothing where the question is new."""
        return frozenset() if self._disturbed is None else self._reasons(*self._disturbed)

    @property
    def ahead(self) -> TrialsAhead:
        """How many trials the search still takes."""
        if self.question() is None:
            return TrialsAhead(0, 0)
        confirming = CONFIRMING - len(self._shares)
        left = MOST_PROBES - self.probes if self._probing else 0
        if left and self.kept is not None:
            probes = [_halvings(self.kept, self.broken)]
        elif left:
            rates = self._opening()
            pairs = zip(rates, [self.broken, *rates], strict=False)
            probes = [k + _halvings(*pair) for k, pair in enumerate(pairs, 1)] or [0]
        else:
            probes = [0]
        sure = confirming + (self._disturbed is not None)
        most = left if self._is_doubtful else min(max(probes), left)
        return TrialsAhead(sure + min(*probes, left), sure + most)

    def record(self, question: RateQuestion, outcome: RateOutcome) -> None:
        """Record what a trial at the rate of a question says.

        A trial without a number ends the search, unless it is asked again.
        """
        if not question.again:  # what is over does not last
            self._lasting &= outcome.slowed_by | outcome.eased_by
        if self._is_disturbed(question, outcome):
            self._disturbed, self._asked_again = (question, outcome), self._asked_again + 1
            return
        if question.again and self._disturbed is not None:
            self._lasting |= outcome.slowed_by | outcome.eased_by
            outcome = outcome if outcome.has_number else self._disturbed[1]
            self._disturbed = None
        if not outcome.has_number:
            self._ended = True
        elif question.trial == 0:
            self.probes += 1
            if self._kept(outcome):
                self.kept = question.items_per_s
            else:
                self.broken, self._broken_by = question.items_per_s, outcome.slowed_by
            if self.kept is not None and self._is_doubtful and _is_closed(self.kept, self.broken):
                self.broken, self._broken_by = self.kept * HIGHEST / START, None
        elif self._confirms(outcome):
            self._shares.append(outcome.share or 0.0)
        else:
            self._shares, self._steps = [], self._steps + 1
            self.broken = question.items_per_s
            step = STEP * 2 ** max(self._steps - EVEN_STEPS, 0)
            self.kept = _rounded((1 - step) * question.items_per_s)

    def _is_disturbed(self, question: RateQuestion, outcome: RateOutcome) -> bool:
        """Return whether to ask again: once a question, and not for ever."""
        asked_enough = question.again or self._asked_again == MOST_AGAIN
        return not asked_enough and bool(self._reasons(question, outcome))

    def _reasons(self, question: RateQuestion, outcome: RateOutcome) -> frozenset[str]:
        every = outcome.slowed_by | outcome.eased_by
        if question.trial == 0:
            every = outcome.eased_by if self._kept(outcome) else outcome.slowed_by
        return every - self._lasting

    def _kept(self, outcome: RateOutcome) -> bool:
        """Return whether a probe kept the bound, by its share where the sample does not decide."""
        if outcome.met is not None:
            return outcome.met
        return outcome.share is not None and outcome.share <= self._allowed

    def _confirms(self, outcome: RateOutcome) -> bool:
        """Return whether three trials can still keep the bound together, with this one."""
        if outcome.share is None or outcome.met is False:
            return outcome.met is True
        return sum(self._shares) + outcome.share <= CONFIRMING * self._allowed

    @property
    def _probing(self) -> bool:
        return self._steps == 0 and not self._shares and self.probes < MOST_PROBES

    def _candidate(self) -> float | None:
        """Return the rate of the next probe; None when the bracket is closed or cannot be opened."""
        if self.kept is not None:
            if _is_closed(self.kept, self.broken):
                return None
            return _rounded(math.sqrt(self.kept * self.broken))
        return next(iter(self._opening()), None)

    @property
    def _is_doubtful(self) -> bool:
        """Whether the upper end of the bracket may keep the bound.

        Nothing was measured there, or what disturbed that trial is over.
        """
        return self._broken_by is None or bool(self._broken_by - self._lasting)

    def _opening(self) -> list[float]:
        """Return the rates that may open the bracket, from the highest down.

        Where even the highest is too low for the window, one trial says so.
        """
        least = self._least if self._least < HIGHEST * self._capacity else 0.0
        rates = [_rounded(max(share * self._capacity, least)) for share in (START, USUAL, LOWEST)]
        return [rate for rate in dict.fromkeys(rates) if rate < self.broken]


def _is_closed(kept: float, broken: float) -> bool:
    return broken <= (1 + CLOSE) * kept


def _rounded(rate: float) -> float:
    """Return a rate to five digits, which is what a person reads and what an id holds."""
    return float(f"{rate:.5g}")


def _halvings(kept: float, broken: float) -> int:
    """Return how many probes close a bracket."""
    ratio = math.log(broken / kept) / math.log(1 + CLOSE)
    return max(math.ceil(math.log2(ratio)), 0) if ratio > 0 else 0


NOT_BEGUN = RateSearch(1.0, 0.01).ahead
"""What a search takes of which nothing is known yet."""

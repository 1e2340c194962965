"""Whole runs of an experiment on fake workers, without Ray, processes or files."""

import contextlib
from dataclasses import dataclass, field, replace
from functools import lru_cache

import yaml
from helpers.fake_workers import FakeReservation
from helpers.last_words import last_of

from raybench.config.compose import read
from raybench.execute.runner import DevicePool, ExperimentRunner, RowTarget
from raybench.execute.stop_request import StopRequest
from raybench.planning.expansion import expand
from raybench.planning.plan import order_trials
from raybench.planning.rate_searches import RateSearches
from raybench.planning.slots import DeviceSlot

SLOTS = tuple(DeviceSlot("gpu", node, number, f"host-{node}") for node in "ab" for number in (0, 1))
DEVICES = {"gpu": 4, "cpu": 2}
WORDS = (
    *("experiment=scaling", "engine=simulated", "model=alexnet", "preset=quick"),
    *("cluster.processes=fresh", "cluster.isolation=cluster"),
)


@lru_cache
def composed(words):
    """Request of a command line; composing takes far longer than a run on fake workers."""
    return read(last_of([*WORDS, *words])).resolve(DEVICES)


def request_of(words):
    """Request of a command line; words of these groups are set without composing anew."""
    groups = {"cluster": {}, "results": {}}
    axes = []
    for word in words:
        group, _, rest = word.partition(".")
        if group in groups:
            key, _, value = rest.partition("=")
            groups[group][key] = yaml.safe_load(value)
        else:
            axes.append(word)
    request = composed(tuple(axes))
    changed = {name: replace(getattr(request, name), **keys) for name, keys in groups.items()}
    return replace(request, **changed)


@dataclass
class FakeStoreRun:
    """Keeps the rows that the writer gives it.

    Attributes:
        fails_at: the row, counted from 1, from which on nothing can be written.
        error: raised then.
    """

    fails_at: int | None = None
    error: Exception | None = None
    tables: list = field(default_factory=list)
    intervals: list = field(default_factory=list)
    order: list = field(default_factory=list)

    def write_interval(self, name, fixed, tables):
        self.intervals.append((name, fixed, tables))
        self.order.append("interval")

    def write_point(self, point_id, trial, **tables):
        self.tables.append(tables)
        self.order.append("trial")
        if self.fails_at is not None and len(self.tables) >= self.fails_at:
            raise self.error


class FakeRun:
    """One run of an experiment.

    Args:
        words: of the command line.
        reservation: the devices and what their workers do.
        finals: status of trials in the store, by (batch size, trial).
        store: takes the rows.
        node_kinds: kind of machine by node.
        cores: of all nodes together.

    Attributes:
        stop: the stop request of the run.
        events: everything announced, in order.
        tally: what the run returned.
        requested: devices of each kind that were reserved.
    """

    def __init__(self, *words, reservation=None, finals=None, store=None, node_kinds=None, cores=2):
        self.reservation = reservation or FakeReservation(SLOTS)
        self.store = store or FakeStoreRun()
        self.stop = StopRequest()
        self.events, self.tally, self.requested = [], None, None
        request = request_of(words)
        points = expand(request.experiment, DEVICES, {"alexnet": "a"})
        self.plan = order_trials(request.experiment, points, DEVICES, request.cluster.isolation)
        final_statuses = finals or {}
        statuses = {
            t.key: final_statuses[t.point.batch_size, t.trial]
            for t in self.plan.trials
            if (t.point.batch_size, t.trial) in final_statuses
        }
        pool = DevicePool({**DEVICES, "cpu": cores}, node_kinds or {}, self._reserve)
        target = RowTarget(
            self.store, "e" * 20, statuses, RateSearches(request.experiment, self.plan, {})
        )
        on_event = self.events.append
        self._runner = ExperimentRunner(request, self.plan, target, pool, on_event, self.stop)

    @contextlib.contextmanager
    def _reserve(self, wanted):
        self.requested = dict(wanted)
        try:
            yield self.reservation
        finally:
            self.reservation.close()

    def execute(self):
        """Run everything; gives the run itself."""
        self.tally = self._runner.execute()
        return self

    @property
    def rows(self):
        return [tables["trials"] for tables in self.store.tables]

    def announced(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

"""An engine that advances a simulated clock, so that a stream waits for nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace


@dataclass
class Clock:
    now: int = 0
    tick: int = 0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> int:
        self.now += self.tick
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += round(seconds * 1e9)


class Engine:
    """Works on one batch after another, each `work` long; submitting takes `enqueue`."""

    def __init__(self, clock: Clock, work: int = 100, enqueue: int = 0, device_clock: bool = False):
        self.clock, self.work, self.enqueue = clock, work, enqueue
        self.info = SimpleNamespace(device_clock=device_clock)
        self.free = 0
        self.ready: dict[int, int] = {}
        self.events: list[tuple[str, int]] = []
        self.at_collect = lambda sequence: None

    def submit(self, sequence: int) -> None:
        self.events.append(("submit", sequence))
        self.clock.now += self.enqueue
        self.free = max(self.free, self.clock.now) + self.work
        self.ready[sequence] = self.free

    def collect(self, sequence: int):
        self.events.append(("collect", sequence))
        self.clock.now = max(self.clock.now, self.ready.pop(sequence))
        self.at_collect(sequence)
        return (sequence, self.work, 1) if self.info.device_clock else None

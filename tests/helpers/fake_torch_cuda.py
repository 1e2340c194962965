"""A fake of a GPU as engine `torch` uses it: tensors stay on the host, and the order of calls is kept.

Copies and computes happen at once. `log` holds on which stream each was to run, and which stream was to wait
for which: on a GPU a wait that is missing would be a wrong number now and then.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Recorder(TorchDispatchMode):
    """Notes every operation with its tensors, as a captured graph does."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, made))
        return made

    def repeat(self):
        with torch.inference_mode():
            for function, args, kwargs, made in self.calls:
                for target, value in zip(
                    tree_leaves(made), tree_leaves(function(*args, **kwargs)), strict=True
                ):
                    if isinstance(target, torch.Tensor) and target.data_ptr() != value.data_ptr():
                        target.copy_(value)


class FakeStream:
    def __init__(self, name, log):
        self.name, self._log = name, log

    def wait_event(self, event):
        self._log.append(f"{self.name} waits for {event.stream}")


class FakeEvent:
    def __init__(self, cuda):
        self._cuda, self.stream, self.at = cuda, None, None

    def record(self, stream):
        self.stream, self.at = stream.name, self._cuda.tick()

    def synchronize(self):
        assert self.at is not None, "waited for an event that nothing has recorded"

    def elapsed_time(self, end):
        return (end.at - self.at) * 1e-3


class FakeTorchCuda:
    """In place of `raybench.engines.torch.cuda.TorchCuda`."""

    total = 64 << 30
    here = "GPU-0"

    def __init__(self, index):
        self.device = torch.device("cpu")
        self.limit = "none was set"
        self.log = []
        self.captures = 0
        self.closed = False
        self._ticks = 0
        self._streams = iter(("copy in", "compute", "copy out"))

    @property
    def uuid(self):
        return self.here

    def tick(self):
        self._ticks += 1
        return self._ticks

    def memory(self):
        return self.total, self.total

    def limit_memory(self, nbytes):
        self.limit = nbytes

    def stream(self):
        return FakeStream(next(self._streams), self.log)

    @contextmanager
    def on(self, stream):
        self.log.append(stream.name)
        yield

    def event(self):
        return FakeEvent(self)

    def drain(self):
        self.log.append("drain")

    def pinned(self, tensor):
        return tensor.clone()

    def pinned_like(self, tensor):
        return torch.empty_like(tensor)

    def captured(self, run, stream):
        """Capture a call: each launch repeats its operations on the memory that they had then."""
        self.captures += 1
        with Recorder() as recorder:
            results = run()
        return recorder.repeat, results

    def close(self):
        self.closed = True

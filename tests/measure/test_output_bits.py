"""Hashes of a fixed batch before and after the stream: who changed, who differs, who cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest

from raybench.engines.base import EngineBase
from raybench.measure.output_bits import (
    NO_BITS,
    OutputBits,
    bits_at_start,
    digest,
    judge_outputs,
    sha256_at_end,
)
from raybench.stats.agreement import minority


class Scripted(EngineBase):
    """Gives one of these outputs after the other, batch by batch; an exception is raised instead."""

    def __init__(self, *outputs):
        self._left = list(outputs)
        self.ran = []

    @classmethod
    def load(cls, load):
        return cls()

    def submit(self, sequence):
        self.ran.append(sequence)

    def collect(self, sequence):
        self._last = self._left.pop(0)

    def outputs(self):
        if isinstance(self._last, Exception):
            raise self._last
        return {} if self._last is None else {"y": np.array(self._last, np.float32)}


def at_start(*outputs):
    """Bits of an engine whose first batch was run, and the engine."""
    engine = Scripted(*outputs)
    engine.submit(0)
    engine.collect(0)
    return bits_at_start(engine), engine


def test_an_engine_that_repeats_itself_is_compared_with_itself_after_the_stream():
    bits, engine = at_start([1, 2], [1, 2], [1, 2], [1, 3])
    assert bits == OutputBits(digest({"y": np.array([1, 2], np.float32)}), True)
    assert sha256_at_end(engine, bits) == bits.sha256
    assert sha256_at_end(engine, bits) != bits.sha256
    assert engine.ran == [0, 0, 0, 0]  # the same batch each time


def test_an_engine_that_differs_from_itself_is_marked_and_compared_no_further():
    bits, engine = at_start([1, 2], [1, 3])
    assert bits == OutputBits(None, False)
    assert sha256_at_end(engine, bits) is None
    assert engine.ran == [0, 0]


@pytest.mark.parametrize("outputs", [None, RuntimeError("no outputs here")])
def test_an_engine_without_outputs_has_no_hash_and_runs_nothing_more(outputs):
    bits, engine = at_start(outputs)
    assert bits == NO_BITS
    assert sha256_at_end(engine, bits) is None
    assert engine.ran == [0]


def test_what_fails_after_the_stream_costs_no_measurement():
    bits, engine = at_start([1], [1])
    assert sha256_at_end(engine, bits) is None  # the script has no further batch


@pytest.mark.parametrize(
    "other",
    [
        {"y": np.zeros(4, np.int32)},
        {"z": np.zeros(4, np.float32)},
        {"y": np.zeros((2, 2), np.float32)},
        {"y": -np.zeros(4, np.float32)},
        {"y": np.zeros(4, np.float32), "z": np.zeros(0, np.float32)},
    ],
)
def test_name_type_shape_and_every_bit_count(other):
    assert digest(other) != digest({"y": np.zeros(4, np.float32)})


def test_equal_values_have_equal_hashes_however_they_lie_in_memory():
    rows = np.arange(12, dtype=np.float16).reshape(3, 4)
    assert digest({"a": rows, "b": np.float32(3)}) == digest(
        {"b": np.float32(3), "a": np.asfortranarray(rows)}
    )
    texts = np.array(["yes", "no"], object)
    assert digest({"a": texts}) == digest({"a": np.array(["yes", "no"], object)})
    assert digest({"a": np.array([np.nan])}) == digest({"a": np.array([np.nan])})


def test_changed_workers_and_those_that_differ_from_themselves_are_left_out_of_the_comparison():
    starts = [OutputBits(sha, True) for sha in ("a", "a", "b", "c", "a")]
    starts.append(OutputBits(None, False))
    found = judge_outputs(starts, ["a", "x", "b", "c", None, None], ["one"] * 6)
    assert found.changed == (1,)
    assert found.differing == (0, 2, 3, 4)  # a, b, c, a: none has more than half
    assert found.nondeterministic == (5,)


def test_workers_are_compared_only_with_those_of_their_kind():
    starts = [OutputBits(sha, True) for sha in "aaabb"]
    assert judge_outputs(starts, list("aaabb"), ["8.6"] * 3 + ["10"] * 2).differing == ()
    assert judge_outputs(starts, list("aaabb"), ["8.6"] * 5).differing == (3, 4)


@pytest.mark.parametrize(
    ("values", "places"),
    [("", []), ("aaaa", []), ("aaba", [2]), ("ab", [0, 1]), ("abc", [0, 1, 2]), ("aab", [2])],
)
def test_the_minority_is_named_or_all_where_there_is_no_majority(values, places):
    assert minority(values) == places

"""The garbage collector is off where asked, and afterwards as it was before."""

from __future__ import annotations

import gc

import pytest

from raybench import gc_control


@pytest.fixture(autouse=True)
def collector():
    yield
    gc.unfreeze()
    gc.enable()


def test_paused_restores_a_collector_that_was_on():
    with gc_control.paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_paused_leaves_a_collector_off_that_was_off():
    with gc_control.paused():
        with gc_control.paused():
            pass
        assert not gc.isenabled()


def test_paused_restores_the_collector_after_an_error():
    with pytest.raises(ValueError, match="stop"), gc_control.paused():
        raise ValueError("stop")
    assert gc.isenabled()


def test_frozen_runs_the_collector_over_new_objects_only():
    with gc_control.paused():
        with gc_control.frozen():
            assert gc.isenabled()
            assert gc.get_freeze_count() > 0
        assert not gc.isenabled()
        assert gc.get_freeze_count() == 0


def test_frozen_leaves_objects_frozen_that_the_caller_had_frozen():
    gc.freeze()
    with gc_control.frozen():
        pass
    assert gc.get_freeze_count() > 0

"""What is said of a worker that a library has crashed, and whether it is tried again."""

from __future__ import annotations

import pytest
from helpers.plans import expanded

from raybench import worker
from raybench.cluster.crashes import _crashed
from raybench.machine.crash_log import Crash
from raybench.measure import output_bits


@pytest.mark.parametrize(
    ("step", "retried"),
    [
        (worker.MAKING, False),
        (worker.LOADING, False),
        (worker.FIRST_BATCHES, False),
        (output_bits.REFERENCE, True),
        (worker.STREAMING, True),
        (worker.TIMING, True),
    ],
)
def test_a_graph_that_crashes_a_library_before_it_is_streamed_is_not_tried_again(step, retried):
    _, (point, *_) = expanded()
    died = _crashed(Crash("SIGSEGV", f"{step} 'x.onnx'"), point)
    assert died.retried is retried
    assert f"crashed with SIGSEGV while {step} 'x.onnx'" in str(died)
    assert died.status == "worker_died"

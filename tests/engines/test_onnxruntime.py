"""Conversion of ONNX Runtime's messages, as seen on an H100, to errors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from raybench.engines import onnxruntime
from raybench.engines.onnxruntime import OnnxRuntimeEngine, OnnxRuntimeSettings
from raybench.errors import EngineFailure, OutOfMemory, Unsupported

if TYPE_CHECKING:
    from raybench.errors import PointError


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Available memory of 286575360 is smaller than requested bytes of 411041792", OutOfMemory),
        ("Failed to allocate memory for requested buffer of size 411041792", OutOfMemory),
        ("CUDNN failure 3000: CUDNN_STATUS_NOT_SUPPORTED ; GPU=0", Unsupported),
        ("Non-zero status code returned while running Conv node", EngineFailure),
    ],
)
def test_the_library_s_message_decides_the_status(message: str, kind: type[PointError]) -> None:
    def fail() -> None:
        raise RuntimeError(message)

    with pytest.raises(kind) as caught:
        onnxruntime._CALLS.run("run", fail)
    if isinstance(caught.value, OutOfMemory):
        assert caught.value.requested_bytes == 411041792


class OfSession:
    """A session whose bindings note what they are given, in order, as the library would copy it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def get_outputs(self):
        return [SimpleNamespace(name="output")]

    def io_binding(self):
        return SimpleNamespace(
            bind_cpu_input=lambda _, array: self.calls.append(("copied", int(array.flat[0]))),
            bind_output=lambda *_: None,
        )

    def run_with_iobinding(self, _) -> None:
        self.calls.append(("ran", 0))


def test_each_batch_crosses_to_a_gpu_where_it_is_submitted(monkeypatch):
    session = OfSession()
    monkeypatch.setattr(onnxruntime, "_session", lambda *_: session)
    pool = SimpleNamespace(count=5, batch=lambda index: {"data": np.full((1,), index)})
    load = SimpleNamespace(
        device=SimpleNamespace(kind="gpu"), transfers=True, options=OnnxRuntimeSettings(), inflight=1,
        model=SimpleNamespace(kept_outputs=(), precision="fp32"), batches=pool, takes_parts=False,
        part_sizes=(1,),
    )  # fmt: skip
    pool.batch_size = 1
    engine = OnnxRuntimeEngine(load)
    session.calls.clear()
    for sequence in range(6):
        engine.submit(sequence)
        engine.collect(sequence)
    assert session.calls == [
        each for i in (0, 1, 2, 3, 4, 0) for each in (("copied", i), ("ran", 0))
    ]

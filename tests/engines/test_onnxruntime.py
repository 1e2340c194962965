"""Conversion of ONNX Runtime's messages, as seen on an H100, to errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from raybench.engines import onnxruntime
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

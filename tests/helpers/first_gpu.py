"""The GPU on which tests that need one run."""

import pytest

from raybench.machine import devices


def first_gpu() -> devices.Device:
    """Return the first GPU that CUDA_VISIBLE_DEVICES shows; skips the test where a driver reports none."""
    shown = devices.shown_gpus()
    if not shown:
        pytest.skip("no NVIDIA GPU that a driver reports")
    return devices.gpu(shown[0].uuid)

"""Block rates and evidence from which tests of the measurement rules start."""

from __future__ import annotations

import numpy as np

from raybench.experiment import MeasureSettings
from raybench.measure.evidence import TrialEvidence
from raybench.measure.limits import Limits
from raybench.measure.stopping import check_window
from raybench.measure.warmup import WarmUp

STANDARD = MeasureSettings()
LIMITS = Limits.of(STANDARD)


def noise(sd: float, n: int = 200, workers: int = 1, seed: int = 0) -> np.ndarray:
    """Block rates around 1, shape (workers, n)."""
    return 1 + sd * np.random.default_rng(seed).standard_normal((workers, n))


def evidence(columns=None, **changes) -> TrialEvidence:
    """Evidence of a trial without any flag, apart from these columns and changes."""
    window = check_window(noise(0.001, 40)[0], STANDARD)
    return TrialEvidence(
        **{
            "warm_up": WarmUp("agreed", 15),
            "window": window,
            "columns": columns or {},
            "device_kind": "cpu",
            **changes,
        }
    )

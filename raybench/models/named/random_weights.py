"""Random weights that compute as trained ones do.

Packages begin training with values that no trained network has: scales of 0 at the end of residual
branches, positions and heads of 0, statistics of batch norms that were never taken. Multiplying zeros
takes less power, and activations that grow from layer to layer overflow in fp16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

_SMALL = 0.01
_BRANCH = 0.25
"""Scale of a residual branch in place of one that is nearly 0."""
_STD = 0.02
"""Of tables and heads in place of those that are 0, as transformers are initialised."""


def seed_all(seed: int) -> None:
    """Seed every generator that an initialisation may draw from."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - packages draw from the global one
    torch.manual_seed(seed)


def settle(module: torch.nn.Module, run: Callable[[], Any]) -> None:
    """Replace weights that are nearly 0, then take the statistics of batch norms from one batch.

    Args:
        module: in eval mode, as its package initialises it.
        run: one forward pass over random inputs.
    """
    import torch

    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.is_floating_point() and weight.numel():
                _replace(name, weight)
        norms = [
            each
            for each in module.modules()
            if isinstance(each, torch.nn.modules.batchnorm._NormBase)
            and each.running_mean is not None
        ]
        before = [(each, each.momentum) for each in norms]
        for each in norms:
            each.reset_running_stats()
            each.momentum = None  # the mean over all batches, which is one
            each.train()
        if norms:
            run()
        for each, momentum in before:
            each.eval()
            each.momentum = momentum


def _replace(name: str, weight: torch.Tensor) -> None:
    """Replace the values of a weight that are all the same and nearly 0, but for a bias."""
    first = weight.flatten()[0]
    if not bool((weight == first).all()) or abs(float(first)) >= _SMALL:
        return
    if sum(size > 1 for size in weight.shape) > 1 or name.endswith(("token", "embed", "embedding")):
        weight.normal_(0.0, _STD)
    elif not name.rpartition(".")[2].startswith("bias"):
        weight.fill_(_BRANCH)

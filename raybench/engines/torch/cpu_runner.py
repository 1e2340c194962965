"""The stream of batches on CPU cores: each is computed where it is submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from raybench.engines.torch.calls import CALLS
from raybench.engines.torch.conversion import tensor_of
from raybench.engines.torch.state import TorchState

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from raybench.engines.base import Load


class CpuRunner:
    """A module and the pool's batches, bound without a copy.

    Args:
        module: takes the inputs of a batch in order.
        load: what to run.
        lay_out: puts an input into the memory layout that the module wants; a view where it has it.
    """

    def __init__(
        self, module: Callable[..., Any], load: Load, lay_out: Callable[[Any], Any]
    ) -> None:
        self._module = module
        self._lay_out = lay_out
        self._names = [spec.name for spec in load.model.outputs]
        self.host_inputs = load.batches.batch
        pool = [load.batches.batch(index) for index in range(load.batches.count)]
        self.state = TorchState(load, torch.device("cpu")) if load.model.state else None
        self._order = [spec.name for spec in load.model.inputs]
        self._inputs = [
            [tensor_of(batch[name]) if name in batch else None for name in self._order]
            for batch in pool
        ]
        self._results: list[Any] = [None] * max(load.inflight, 1)
        self._last: Any = None

    def submit(self, sequence: int) -> None:
        """Compute a batch."""
        inputs = self._inputs[sequence % len(self._inputs)]
        self._results[sequence % len(self._results)] = CALLS.run("run", lambda: self._run(inputs))

    def _run(self, inputs: list[Any]) -> Any:
        with torch.inference_mode():
            if self.state is None:
                return self._module(*map(self._lay_out, inputs))
            kept = self.state.tensors
            results = self._module(
                *(
                    kept[name] if given is None else self._lay_out(given)
                    for name, given in zip(self._order, inputs, strict=True)
                )
            )
            self.state.renew(dict(zip(self._names, results, strict=True)))
            return results

    def collect(self, sequence: int) -> None:
        """Remember a batch; it is done already."""
        self._last = self._results[sequence % len(self._results)]

    def outputs(self) -> list[np.ndarray[Any, Any]]:
        """Return copies of the outputs of the batch collected last, in order."""
        return [numpy_of(tensor) for tensor in self._last]

    def restart(self) -> None:
        """Put the first state back."""
        if self.state is not None:
            self.state.restart()

    def close(self) -> None:
        """Drop everything."""
        self._inputs, self._results, self._last, self.state = [], [], None, None


def numpy_of(tensor: Any) -> np.ndarray[Any, Any]:
    """Return a copy of a tensor on the host; bf16, which NumPy lacks, as fp32."""
    tensor = tensor.detach().to("cpu", copy=True)
    widened = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    array: np.ndarray[Any, Any] = widened.contiguous().numpy()
    return array

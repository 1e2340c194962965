"""The calls of torch.cuda that a stream of batches makes, on one device.

Run on an H200 with PyTorch 2.11 for CUDA 13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


class TorchCuda:
    """One GPU of this process, made current.

    Args:
        index: its number within the process.

    Attributes:
        device: as tensors name it.
    """

    def __init__(self, index: int) -> None:
        torch.cuda.set_device(index)
        self.device: Any = torch.device("cuda", index)

    @property
    def uuid(self) -> str | None:
        """Return the GPU's UUID as the driver writes it; None if this PyTorch does not know it."""
        found = getattr(torch.cuda.get_device_properties(self.device), "uuid", None)
        text = None if found is None else str(found)
        return text if text is None or text.startswith(("GPU-", "MIG-")) else f"GPU-{text}"

    def memory(self) -> tuple[int, int]:
        """Return free and total bytes of the device."""
        free, total = torch.cuda.mem_get_info(self.device)
        return int(free), int(total)

    def limit_memory(self, nbytes: int | None) -> None:
        """Let PyTorch allocate no more than this on the device; None takes an earlier limit back."""
        share = 1.0 if nbytes is None else min(1.0, nbytes / self.memory()[1])
        torch.cuda.set_per_process_memory_fraction(share, self.device)

    def stream(self) -> Any:
        """Create a stream."""
        return torch.cuda.Stream(self.device)

    def on(self, stream: Any) -> Any:
        """Return a context in which work is enqueued on a stream."""
        return torch.cuda.stream(stream)

    def event(self) -> Any:
        """Create an event that notes the device's time."""
        return torch.cuda.Event(enable_timing=True)

    def drain(self) -> None:
        """Block until nothing runs on the device."""
        torch.cuda.synchronize(self.device)

    def pinned(self, tensor: Any) -> Any:
        """Return a copy of a host's tensor in pinned memory, which the device reads by itself."""
        return tensor.pin_memory()

    def pinned_like(self, tensor: Any) -> Any:
        """Return pinned host memory for a tensor of the device."""
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)

    def captured(self, run: Callable[[], Any], stream: Any) -> tuple[Callable[[], None], Any]:
        """Capture a call as a graph; return what launches it, and its results, which each launch renews.

        Each graph has memory of its own: in memory that graphs share, one that runs writes over results of
        another, which may still be on their way to the host.
        """
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            results = run()
        return graph.replay, results

    def close(self) -> None:
        """Give memory that nothing uses back to the device."""
        torch.cuda.empty_cache()

"""Device: one GPU or CPU core that a worker owns, and what this machine has of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """What a worker runs on.

    Attributes:
        kind: "gpu" or "cpu".
        name: the product's name, e.g. "NVIDIA H200" or the CPU's model name.
        index: as the process sees it: a CUDA ordinal (always 0 behind CUDA_VISIBLE_DEVICES), or
            the number of the CPU core.
        uuid: the GPU's own UUID; None for a core, or where nothing tells (a told GPU).
        visible: the entry of CUDA_VISIBLE_DEVICES that Ray gave, or the core number as text.
        told: True for a GPU that the cluster was told to have and no driver confirms.
        memory_bytes: of the device (GPU) or the node (CPU); None when unknown.
    """

    kind: str
    name: str
    index: int
    uuid: str | None
    visible: str
    told: bool = False
    memory_bytes: int | None = None

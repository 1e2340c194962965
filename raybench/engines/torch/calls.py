"""Calls of PyTorch, and what its exceptions mean for a point."""

from __future__ import annotations

import re

from raybench.engines.refusals import LibraryCalls

CALLS = LibraryCalls(
    "PyTorch",
    (Exception,),  # its compilers raise exceptions of many kinds
    re.compile(
        r"[Tt]ried to allocate (?P<size>[\d.]+) ?(?P<unit>bytes|KiB|MiB|GiB)|CUDA out of memory(?!.*Tried to allocate)"
        r"|CUDA error: out of memory|Arena alloc failed"
    ),
    {
        re.compile("no kernel image is available"): (
            "This PyTorch is built for other GPUs than this one. Install a PyTorch for the GPU's compute "
            "capability, or use engine=tensorrt."
        ),
        re.compile(r"\"(?P<what>\w+)\" not implemented for '(?P<type>\w+)'"): (
            "PyTorch has no kernel {what} for {type} on this device. Use another precision or engine."
        ),
    },
    begins=True,
)

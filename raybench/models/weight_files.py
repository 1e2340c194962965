"""Weights of a recipe written into a file beside their graph, block by block: they may exceed memory."""

from __future__ import annotations

import math
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raybench.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from raybench.models.builder import Weight

FILE = "weights_0.bin"
_ALIGNMENT = 4096
"""ONNX Runtime maps a tensor into memory instead of reading it where it begins at a page."""
_MOST_THREADS = 8
"""Each holds two blocks of values."""


@dataclass(frozen=True)
class WeightFile:
    """The weights of a graph, drawn as they are written.

    Attributes:
        weights: of the graph, in the order of the file.
        seed: of their values.
        dtype: that they are stored in.
    """

    weights: tuple[Weight, ...]
    seed: int
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(map(self._bytes_of, self.weights))

    @property
    def elements(self) -> int:
        """Number of all weights."""
        return self.nbytes // np.dtype(self.dtype).itemsize

    def write(self, proto: onnx.ModelProto, folder: Path) -> None:
        """Write the file into a folder, and let the graph's weights be in it.

        Raises:
            Refused: the folder's disk has no room for it.
        """
        ends = np.cumsum([-(-self._bytes_of(w) // _ALIGNMENT) * _ALIGNMENT for w in self.weights])
        offsets = {
            weight.name: int(end) for weight, end in zip(self.weights[1:], ends, strict=False)
        }
        free = shutil.disk_usage(folder).free
        if free < int(ends[-1]):
            raise Refused(
                f"The {self.dtype} weights of this model take {int(ends[-1]) / 1e9:.1f} GB in the cache "
                f"folder, and {free / 1e9:.1f} GB are free. Set RAYBENCH_CACHE to a folder with more."
            )
        with (folder / FILE).open("wb") as file:
            file.truncate(int(ends[-1]))
            threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
            with ThreadPoolExecutor(threads) as pool:
                places = (offsets.get(weight.name, 0) for weight in self.weights)
                handles = [file.fileno()] * len(self.weights)
                list(pool.map(self._write_one, handles, self.weights, places))
        self._refer(proto, offsets)

    def _write_one(self, handle: int, weight: Weight, offset: int) -> None:
        for block in weight.blocks(self.seed, self.dtype):
            left = block.data.cast("B")
            while left:
                written = os.pwrite(handle, left, offset)
                left, offset = left[written:], offset + written

    def _refer(self, proto: onnx.ModelProto, offsets: dict[str, int]) -> None:
        by_name = {weight.name: weight for weight in self.weights}
        for tensor in proto.graph.initializer:
            if tensor.name not in by_name:
                continue
            length = self._bytes_of(by_name[tensor.name])
            place = (
                ("location", FILE),
                ("offset", offsets.get(tensor.name, 0)),
                ("length", length),
            )
            tensor.data_location = tensor.EXTERNAL
            for key, value in place:
                entry = tensor.external_data.add()
                entry.key, entry.value = key, str(value)

    def _bytes_of(self, weight: Weight) -> int:
        return math.prod(weight.shape) * np.dtype(self.dtype).itemsize

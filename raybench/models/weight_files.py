"""Weights of a recipe written into a file beside their graph, block by block: they may exceed memory."""

from __future__ import annotations

import math
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
        owner: whose weights they are, e.g. "decoder_1b@1": graphs of the same owner have the same.
        weights: of the graph, in the order of the file.
        seed: of their values.
        dtype: that they are stored in.
    """

    owner: str
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

    @property
    def identity(self) -> str:
        """What decides the bytes of the file."""
        return f"{self.owner}/seed={self.seed}/{self.dtype}"

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the file into a folder; there are no facts to keep with it.

        Raises:
            Refused: the folder's disk has no room for it.
        """
        places, length = self._places()
        free = shutil.disk_usage(folder).free
        if free < length:
            raise Refused(
                f"The {self.dtype} weights of this model take {length / 1e9:.1f} GB in the cache folder, and "
                f"{free / 1e9:.1f} GB are free. Set RAYBENCH_CACHE to a folder with more."
            )
        with (folder / FILE).open("wb") as file:
            file.truncate(length)
            threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
            with ThreadPoolExecutor(threads) as pool:
                handles = [file.fileno()] * len(self.weights)
                list(pool.map(self._write_one, handles, self.weights, places))
        return {}

    def place(self, proto: onnx.ModelProto, shared: Path, folder: Path) -> None:
        """Give a graph in a folder the weights of a written file: by a link, so that they lie there once.

        onnx.load reads no weights from files with several links; engines do.
        """
        try:
            os.link(shared / FILE, folder / FILE)
        except OSError:  # a file system without links
            shutil.copyfile(shared / FILE, folder / FILE)
        places = dict(zip((weight.name for weight in self.weights), self._places()[0], strict=True))
        lengths = {weight.name: self._bytes_of(weight) for weight in self.weights}
        for tensor in proto.graph.initializer:
            if tensor.name not in places:
                continue
            tensor.data_location = tensor.EXTERNAL
            name = tensor.name
            for key, value in (
                ("location", FILE),
                ("offset", places[name]),
                ("length", lengths[name]),
            ):
                entry = tensor.external_data.add()
                entry.key, entry.value = key, str(value)

    def _places(self) -> tuple[list[int], int]:
        """Return where each weight begins in the file, and where the file ends."""
        places, end = [], 0
        for weight in self.weights:
            places.append(end)
            end += -(-self._bytes_of(weight) // _ALIGNMENT) * _ALIGNMENT
        return places, end

    def _write_one(self, handle: int, weight: Weight, offset: int) -> None:
        for block in weight.blocks(self.seed, self.dtype):
            left = block.data.cast("B")
            while left:
                written = os.pwrite(handle, left, offset)
                left, offset = left[written:], offset + written

    def _bytes_of(self, weight: Weight) -> int:
        return math.prod(weight.shape) * np.dtype(self.dtype).itemsize

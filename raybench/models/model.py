"""Model: an ONNX graph in one precision, ready for an engine, with its facts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raybench.errors import Unsupported
from raybench.models.conversion import Conversion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.models.state import StateTensor

BATCH = "N"
"""The symbol of the batch dimension in every prepared graph."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: the tensor's name in the graph.
        dtype: numpy's name of the element type, e.g. "float32".
        shape: dimensions; the batch is `BATCH`, at any position and at most once; all other
            dimensions of an input are numbers. An input without `BATCH` is the same whatever the
            batch size.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def batch_axis(self) -> int | None:
        """Position of the batch; None without one."""
        return self.shape.index(BATCH) if BATCH in self.shape else None

    def with_batch(self, batch_size: int) -> tuple[int, ...]:
        """Return the shape with the batch filled in; raises ValueError for any other symbol."""
        dims = [batch_size if dim == BATCH else dim for dim in self.shape]
        if not all(isinstance(dim, int) for dim in dims):
            raise ValueError(f"{self.name} has open dimensions {self.shape}")
        return tuple(int(dim) for dim in dims)

    @property
    def item_bytes(self) -> int | None:
        """Bytes of one item; 0 of a tensor without a batch, None where a size or the type is open."""
        if self.batch_axis is None:
            return None if "?" in self.shape else 0
        try:
            return math.prod(self.with_batch(1)) * np.dtype(self.dtype).itemsize
        except (TypeError, ValueError):
            return None


@dataclass(frozen=True)
class FileBatch:
    """The batch that a file is fixed to.

    Attributes:
        size: items in it.
        why: why the graph takes no other batch; None if it takes any.
    """

    size: int
    why: str | None = None

    def refusal(self, model: str, batch_size: int | None) -> str | None:
        """Return why a model cannot run with a batch, in a sentence; None if it can.

        Args:
            model: its name.
            batch_size: items in the batch; None for the largest that fits.
        """
        if self.why is None or batch_size == self.size:
            return None
        return (
            f"Model {model!r} is fixed to batch {self.size} and cannot take another: {self.why}. "
            f"Use batch_size={self.size}. Export it with a dynamic batch ({BATCH}) for others."
        )

    def note(self, batch_size: int | None) -> str | None:
        """Return the note of a row that ran with another batch than the file has; None without."""
        if batch_size == self.size:
            return None
        return f"batch_opened: the file is fixed to batch {self.size}"


@dataclass(frozen=True)
class Model:
    """An ONNX file in one precision.

    Attributes:
        name: as the user wrote it (a zoo name or a path).
        precision: logical precision, e.g. "int8".
        dialect: how int8 is written into the graph ("s8s8", "u8s8", "u8s7"); None otherwise.
        path: the ONNX file on this node; external data, if any, is in the same folder.
        sha256: hash of the graph file and its external data.
        inputs: inputs; every dimension but the batch is a number.
        outputs: outputs, as far as the graph describes them.
        parameters: number of weight elements of the fp32 graph.
        macs_per_item: multiply-accumulates of convolutions, matrix products and recurrent layers
            for one item of the fp32 graph; None where they are not all known.
        fp32_path: the fp32 graph that this one was converted from (itself for fp32, and for as_is,
            which has none).
        fp32_sha256: hash of that graph file and its external data.
        softmax_outputs: names of the outputs of Softmax nodes.
        ranges: lowest and highest value of each integer input, for `BatchPool`.
        conversion: how the graph was made from the fp32 graph.
        file_batch: the batch that the user's file is fixed to; None if it is open.
        reduced_ops: operators that compute below fp32 with their types, e.g. "Conv:int8"; None
            where the graph does not tell.
        quantised_macs_frac: share of the multiply-accumulates with operands of 8 or fewer bits on
            both sides; None where unknown.
        uncounted: names of the nodes because of which macs_per_item is None.
        drawn_outputs: names of the outputs that follow from random numbers which the graph draws.
        type_notes: what a row must say of the types that the graph computes in, a sentence each.
        no_reference: why there is no fp32 graph to compare with, in a sentence; empty if there is one.
        weight_bytes: of the weights and constants that the graph stores; None where unknown.
        state: inputs that the device keeps and outputs renew; they are in no batch.
        kept_outputs: names of the outputs that do not leave the device in the timed stream.
        source_notes: what it must say of a named model, such as that its weights are random.
        table_parameters: weights of the fp32 graph in tables of which an item only gathers rows; None
            where unknown.
        activations: numbers that operators of the fp32 graph hand on for one item; None where unknown.
    """

    name: str
    precision: str
    dialect: str | None
    path: Path
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int
    macs_per_item: int | None
    fp32_path: Path
    fp32_sha256: str
    softmax_outputs: frozenset[str]
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    conversion: Conversion = field(default_factory=Conversion)
    file_batch: FileBatch | None = None
    reduced_ops: tuple[str, ...] | None = None
    quantised_macs_frac: float | None = None
    uncounted: tuple[str, ...] = ()
    drawn_outputs: frozenset[str] = frozenset()
    type_notes: tuple[str, ...] = ()
    weight_bytes: int | None = None
    no_reference: str = ""
    state: tuple[StateTensor, ...] = ()
    kept_outputs: frozenset[str] = frozenset()
    source_notes: tuple[str, ...] = ()
    table_parameters: int | None = None
    activations: int | None = None

    @classmethod
    def named(cls, name: str, precision: str, dialect: str | None) -> Model:
        """Return a model without file, inputs and counts, for an engine that reads no graph."""
        nowhere = Path("none")
        nothing = frozenset[str]()
        return cls(name, precision, dialect, nowhere, "", (), (), 0, None, nowhere, "", nothing)

    @property
    def fed_inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs that batches hold: all but state."""
        kept = {tensor.input for tensor in self.state}
        return tuple(spec for spec in self.inputs if spec.name not in kept)

    @property
    def state_inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs that the device keeps."""
        kept = {tensor.input for tensor in self.state}
        return tuple(spec for spec in self.inputs if spec.name in kept)

    def refuse_batch(self, batch_size: int) -> None:
        """Raise Unsupported if the graph takes another batch only."""
        reason = self.file_batch.refusal(self.name, batch_size) if self.file_batch else None
        if reason is not None:
            raise Unsupported(reason)

    @property
    def count_notes(self) -> tuple[str, ...]:
        """Notes of a row: why its MACs, or the share of them in int8, are unknown, if they are."""
        if not self.uncounted:
            return self.type_notes
        more = f" and of {len(self.uncounted) - 1} more" if self.uncounted[1:] else ""
        return (
            f"MACs are unknown: those of node {self.uncounted[0]!r}{more} cannot be counted.",
            *self.type_notes,
        )

    def batch_notes(self, batch_size: int) -> tuple[str, ...]:
        """Return the notes of a row with this batch: that the file has another one, if it has."""
        note = self.file_batch.note(batch_size) if self.file_batch else None
        return () if note is None else (note,)

    def input_shapes(self, batch_size: int) -> str:
        """Return the shapes of all inputs, e.g. "data:8x3x227x227;rate:scalar"."""
        return ";".join(
            f"{spec.name}:{'x'.join(map(str, spec.with_batch(batch_size))) or 'scalar'}"
            for spec in self.inputs
        )

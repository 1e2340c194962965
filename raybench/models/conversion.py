"""What a pass is given, the fp32 graph, and what it reports of the graph that it wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import onnx

    from raybench.models.items.batches import ItemSource
    from raybench.models.model import TensorSpec

UNTYPED = "untyped.onnx"
"""Graph beside an int8_fp16 one: the same Q/DQ in fp32 types, for a library that chooses types itself."""

EXTERNAL_ABOVE_BYTES = 1_800_000_000  # a protobuf is limited to 2 GiB


@dataclass(frozen=True)
class Fp32Graph:
    """The fp32 graph of a model, in its normal form, in a cache entry of its own.

    Attributes:
        path: the graph file; external data, if any, is in the same folder.
        inputs: inputs; every dimension but the batch is a number.
        ranges: lowest and highest value of each integer input.
        softmax_outputs: names of the outputs of Softmax nodes.
        given: items of the inputs that are not drawn, as `BatchPool` takes them.
        drawn_outputs: names of the outputs that follow from random numbers which the graph draws.
    """

    path: Path
    inputs: tuple[TensorSpec, ...]
    ranges: Mapping[str, tuple[int, int]]
    softmax_outputs: frozenset[str] = frozenset()
    given: Mapping[str, np.ndarray[Any, Any] | ItemSource] = field(default_factory=dict)
    drawn_outputs: frozenset[str] = frozenset()

    @property
    def big(self) -> bool:
        """Whether its weights exceed what one protobuf holds, so they stay in external files."""
        size_bytes = sum(file.stat().st_size for file in self.path.parent.iterdir())
        return size_bytes > EXTERNAL_ABOVE_BYTES

    def load(self) -> onnx.ModelProto:
        """Read the graph with its weights."""
        import onnx

        return onnx.load(self.path)


@dataclass(frozen=True)
class Conversion:
    """How a reduced graph was made; the defaults are those of a graph that no pass made.

    Attributes:
        calibration: method that chose the ranges of int8 activations, e.g. "minmax".
        kept_fp32_ops: kinds of ops that stayed in fp32 because half precision ruins them.
        fp32_nodes: names of those nodes, for an engine that chooses types by itself.
        rounded_sqnr_db: fidelity to fp32 of the fp16 graph, computed on the CPU with every half
            tensor rounded to half; None where not computed.
        judged_sqnr_db: fidelity to fp32 of the int8 graph by ONNX Runtime on the items that judged
            its calibration; None where not computed.
        notes: further facts for the row, a sentence each.
    """

    calibration: str | None = None
    kept_fp32_ops: tuple[str, ...] = ()
    fp32_nodes: tuple[str, ...] = ()
    rounded_sqnr_db: float | None = None
    judged_sqnr_db: float | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Conversion:
        """Return what a cache entry keeps of a conversion, as `asdict` has written it."""
        return cls(
            calibration=facts.get("calibration"),
            kept_fp32_ops=tuple(facts.get("kept_fp32_ops", ())),
            fp32_nodes=tuple(facts.get("fp32_nodes", ())),
            rounded_sqnr_db=facts.get("rounded_sqnr_db"),
            judged_sqnr_db=facts.get("judged_sqnr_db"),
            notes=tuple(facts.get("notes", ())),
        )


def save(model: onnx.ModelProto, target: Path, big: bool) -> None:
    """Write a graph; its weights into a file of their own beside it if they are too many for one."""
    import onnx

    location = f"{target.name}.data" if big else None
    onnx.save_model(model, target, save_as_external_data=big, location=location)

"""Provenance: what the export of a named model noted in its graph, so that it travels with the file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

_KEY = "raybench.provenance"


@dataclass(frozen=True)
class Provenance:
    """Where an exported graph comes from, and what its inputs mean.

    Attributes:
        model: as the user wrote it, e.g. "timm:resnet18".
        packages: versions of the packages that defined and exported it.
        weights: "seed=0" for random ones, else "sha256=..." of the files of trained ones.
        parameters: of the module, before the export folds batch norms; each shared one once.
        ranges: lowest and highest value of inputs that are neither indices nor random, such as 1 and 1
            of an attention mask without padding.
        notes: what a row must say of it, a sentence each.
    """

    model: str
    packages: Mapping[str, str]
    weights: str
    parameters: int
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def write(self, proto: onnx.ModelProto) -> None:
        """Note it in a graph."""
        entry = proto.metadata_props.add()
        entry.key, entry.value = _KEY, json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def read(cls, proto: onnx.ModelProto) -> Provenance | None:
        """Return what a graph notes; None for a graph that raybench has not exported."""
        text = next((entry.value for entry in proto.metadata_props if entry.key == _KEY), None)
        if text is None:
            return None
        facts = json.loads(text)
        ranges = {name: (low, high) for name, (low, high) in facts.pop("ranges").items()}
        return cls(**{**facts, "ranges": ranges, "notes": tuple(facts["notes"])})

"""Recipe: how a network of the zoo is written with a GraphBuilder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from raybench.models.builder import GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

    from raybench.models.model import TensorSpec


@dataclass(frozen=True)
class Recipe:
    """How to write one network.

    Attributes:
        name: name in the zoo.
        version: raised with every change of the graph or of its weights.
        inputs: inputs of the graph.
        output: shape of the only output.
        write: adds the network to a builder and returns the name of the last value.
        ranges: lowest and highest value of each integer input.
    """

    name: str
    version: int
    inputs: tuple[TensorSpec, ...]
    output: tuple[int | str, ...]
    write: Callable[[GraphBuilder], str]
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def model(self, seed: int | None) -> onnx.ModelProto:
        """Return the graph with the weights of `seed`; None leaves them without values."""
        builder = GraphBuilder(self.name, self.inputs)
        return builder.model(self.write(builder), self.output, seed)

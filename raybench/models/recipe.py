"""Recipe: how a network of the zoo is written with a GraphBuilder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from raybench.models.builder import GraphBuilder
from raybench.models.model import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

    from raybench.models.state import StateTensor
    from raybench.models.weight_files import WeightFile


_OUTPUT = "output"


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
        builder.rename(self.write(builder), _OUTPUT)
        return builder.model((TensorSpec(_OUTPUT, "float32", self.output),), seed)

    @property
    def lengths(self) -> Mapping[str, int]:
        """Sizes in tokens that axes set, by axis: only decoders have any."""
        return {}

    def with_lengths(self, lengths: Mapping[str, int]) -> Recipe:
        """Return this recipe, which has no lengths to set."""
        return self

    def in_precision(self, precision: str) -> Recipe:
        """Return this recipe: it is written in fp32, from which passes make other precisions."""
        return self

    @property
    def precisions(self) -> Mapping[str, str]:
        """Precisions that the recipe writes itself: none."""
        return {}

    @property
    def state(self) -> tuple[StateTensor, ...]:
        """Inputs that the device keeps: only decoders have any."""
        return ()

    @property
    def limits(self) -> dict[str, int]:
        """Number of valid indices of each integer input."""
        return {name: high + 1 for name, (_, high) in self.ranges.items()}

    def weight_file(self, seed: int) -> WeightFile | None:
        """Return the weights that are written beside the graph: none, it holds them."""
        return None

"""Precisions that a recipe of the zoo writes itself, beside those that passes make of its fp32 graph."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from raybench.errors import Unsupported
from raybench.experiment import QUANTISED
from raybench.models import zoo
from raybench.models.conversion import Conversion
from raybench.models.decoder import is_wide
from raybench.models.graph.graph_types import graph_types
from raybench.models.passes import precision as passes

if TYPE_CHECKING:
    import onnx

    from raybench.experiment import ModelSettings

LARGEST_REFERENCE_BYTES = 8_000_000_000
"""Largest fp32 weights that are written for a comparison alone."""


@dataclass(frozen=True)
class WrittenPrecision:
    """Whether the recipe of a model writes a precision itself.

    Attributes:
        by_recipe: whether it does.
        no_reference: why no fp32 graph is written beside it, in a sentence; empty if one is.
    """

    by_recipe: bool = False
    no_reference: str = ""

    @property
    def alone(self) -> bool:
        """Whether no fp32 graph is written beside it."""
        return bool(self.no_reference)


def written_precision(name: str, settings: ModelSettings, precision: str) -> WrittenPrecision:
    """Return whether a recipe writes a precision itself.

    Raises:
        Unsupported: it is a decoder's, and no graph of it can be made in this precision.
    """
    recipe = zoo.RECIPES.get(name)
    if recipe is None or not recipe.precisions:
        return WrittenPrecision()
    if precision in QUANTISED:
        raise Unsupported(
            f"Precision {precision!r} cannot be made for {name!r}: a decoder's step would quantise all of its "
            "cache for every token. Use precision=fp32, or int8_weights with engine=openvino."
        )
    weights = recipe.weight_file(settings.seed)
    if precision not in recipe.precisions or weights is None:
        return WrittenPrecision()
    if weights.nbytes <= LARGEST_REFERENCE_BYTES:
        return WrittenPrecision(by_recipe=True)
    return WrittenPrecision(
        True,
        f"The outputs were not compared with fp32: that graph has {weights.nbytes / 1e9:.0f} GB of weights, and "
        f"none of more than {LARGEST_REFERENCE_BYTES / 1e9:.0f} GB is written to be compared with.",
    )


def written_facts(proto: onnx.ModelProto, precision: str) -> dict[str, Any]:
    """Return what a graph that a recipe wrote in a reduced precision computes in, as facts."""
    types = graph_types(proto)
    passes.refuse_unproven(precision, types)
    wide = [node for node in proto.graph.node if is_wide(node)]
    kept = tuple(dict.fromkeys(node.op_type for node in wide))
    made = Conversion(kept_fp32_ops=kept, fp32_nodes=tuple(node.name for node in wide))
    return {**asdict(made), **types.facts}

"""Recipes of decoders: inputs, outputs and state of the two graphs, at lengths that axes set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from raybench.models.builder import GraphBuilder
from raybench.models.decoder import write_prefill, write_step
from raybench.models.model import BATCH, TensorSpec
from raybench.models.state import StateTensor, write_state
from raybench.models.weight_files import WeightFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from raybench.models.decoder import DecoderSizes

LENGTHS = {"prompt": 128, "context": 512, "new_tokens": 128}
"""Tokens of a prompt, of a cache, and generated before positions begin again, unless axes say otherwise."""

LENGTHS_OF = {"prefill": ("prompt",), "step": ("context", "new_tokens")}


@dataclass(frozen=True)
class DecoderRecipe:
    """How to write one of the two graphs of a decoder.

    Attributes:
        name: name in the zoo.
        version: raised with every change of the graph or of its weights.
        sizes: of the decoder.
        part: which of the graphs.
        lengths: in tokens, by axis.
        dtype: element type of weights, keys and values, and of most of the arithmetic.
    """

    name: str
    version: int
    sizes: DecoderSizes
    part: Literal["prefill", "step"]
    lengths: Mapping[str, int]
    dtype: str = "float32"

    @classmethod
    def usual(
        cls, name: str, version: int, sizes: DecoderSizes, part: Literal["prefill", "step"]
    ) -> DecoderRecipe:
        """Return the recipe at the lengths that a point has unless its axes say otherwise."""
        lengths = {axis: LENGTHS[axis] for axis in LENGTHS_OF[part]}
        return cls(f"{name}_{part}", version, sizes, part, lengths)

    def with_lengths(self, lengths: Mapping[str, int]) -> DecoderRecipe:
        """Return the same recipe at other lengths; what it has no use for is left out."""
        own = {axis: lengths.get(axis, tokens) for axis, tokens in self.lengths.items()}
        return replace(self, lengths=own)

    def in_precision(self, precision: str) -> DecoderRecipe:
        """Return the recipe in a precision of its own, else in fp32."""
        return replace(self, dtype=self.precisions.get(precision, "float32"))

    @property
    def precisions(self) -> Mapping[str, str]:
        """Element types of the precisions that the recipe writes itself, from the same draws as fp32.

        No pass makes them: it would need all weights in memory, and leave keys and values in fp32.
        """
        return {"fp16": "float16"}

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs of the graph."""
        if self.part == "prefill":
            return (TensorSpec("tokens", "int64", (BATCH, self.lengths["prompt"])),)
        return (
            TensorSpec("token", "int64", (BATCH, 1)),
            TensorSpec("position", "int64", (1,)),
            *self.sizes.caches("past_", self.dtype, self.lengths["context"]),
        )

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs of the graph."""
        logits = TensorSpec("logits", self.dtype, (BATCH, self.sizes.vocabulary))
        if self.part == "prefill":
            caches = self.sizes.caches("", self.dtype, self.lengths["prompt"])
            return (logits, TensorSpec("token", "int64", (BATCH, 1)), *caches)
        return (
            logits,
            TensorSpec("next_token", "int64", (BATCH, 1)),
            TensorSpec("next_position", "int64", (1,)),
            *self.sizes.caches("new_", self.dtype, 1),
        )

    @property
    def state(self) -> tuple[StateTensor, ...]:
        """Inputs of a step that its outputs renew."""
        if self.part == "prefill":
            return ()
        pairs = zip(
            self.sizes.caches("past_", "", 0), self.sizes.caches("new_", "", 1), strict=True
        )
        return (
            StateTensor("token", "next_token"),
            StateTensor("position", "next_position"),
            *(StateTensor(past.name, new.name, ring_axis=2) for past, new in pairs),
        )

    @property
    def kept_outputs(self) -> tuple[str, ...]:
        """Outputs that stay on the device: all but the token that follows."""
        names = (spec.name for spec in self.outputs)
        return tuple(name for name in names if name not in ("token", "next_token"))

    @property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """Lowest and highest value of each integer input; positions begin after the cache."""
        tokens = (0, self.sizes.vocabulary - 1)
        if self.part == "prefill":
            return {"tokens": tokens}
        return {"token": tokens, "position": (self.lengths["context"],) * 2}

    @property
    def limits(self) -> dict[str, int]:
        """Number of valid indices of each integer input."""
        limits = {name: high + 1 for name, (_, high) in self.ranges.items()}
        if self.part == "step":
            limits["position"] = self.lengths["context"] + self.lengths["new_tokens"]
        return limits

    def model(self, seed: int | None) -> onnx.ModelProto:
        """Return the graph with the weights of `seed`; None leaves them without values."""
        proto = self._written().model(self.outputs, seed)
        write_state(proto, self.state, self.kept_outputs)
        return proto

    def weight_file(self, seed: int) -> WeightFile:
        """Return the weights, which are written beside the graph: the same for both parts."""
        owner = f"{self.name.removesuffix(f'_{self.part}')}@{self.version}"
        return WeightFile(owner, self._written().weights, seed, self.dtype)

    def _written(self) -> GraphBuilder:
        builder = GraphBuilder(self.name, self.inputs, self.dtype)
        if self.part == "prefill":
            write_prefill(builder, self.sizes, self.lengths["prompt"])
        else:
            write_step(builder, self.sizes, self.lengths["context"], self.lengths["new_tokens"])
        return builder

"""A Llama-shaped decoder as two graphs: prefill reads a prompt, step generates one token more.

Blocks have RMSNorm, rotary positions, attention whose query heads share keys and values by groups, and
a gated feed-forward (SwiGLU), without biases (Touvron et al. 2023; Dubey et al. 2024, "The Llama 3 Herd
of Models"). Only plain ONNX operators are used, which every engine has.

Keys are stored after their rotation, so their order in the cache does not matter: the cache of a step
is a ring that is always full. A step reads the cache where it lies and makes one row for it: scores with
the keys of the cache and with the new key are one softmax, of which both parts are multiplied by their
values. Nothing copies the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.models.model import BATCH, TensorSpec

if TYPE_CHECKING:
    import onnx

    from raybench.models.builder import GraphBuilder

    Array = np.ndarray[Any, Any]

_EPSILON = 1e-5
_MASKED = -1e4
"""Added to the score of a later token: its share is then 0, in half precision too."""

_TABLE_STD = 0.02

_WIDE = ("square", "mean", "power", "root", "unit")
"""End the names of the nodes that compute in fp32 in every graph: those of the norms."""


def is_wide(node: onnx.NodeProto) -> bool:
    """Return whether a node computes in fp32 by order, whatever the type of the weights."""
    return node.name.rpartition(".")[2] in _WIDE


@dataclass(frozen=True)
class DecoderSizes:
    """Sizes of a decoder.

    Attributes:
        width: numbers of a token between blocks.
        blocks: number of them.
        heads: of queries.
        kv_heads: of keys and values, each shared by a group of query heads.
        head: numbers of a head.
        feed_forward: width within the feed-forward.
        vocabulary: number of tokens.
        tied: whether the table of embeddings is also the last layer.
        theta: base of the rotary positions.
    """

    width: int
    blocks: int
    heads: int
    kv_heads: int
    head: int
    feed_forward: int
    vocabulary: int
    tied: bool
    theta: float

    def cache(self, name: str, dtype: str, tokens: int) -> TensorSpec:
        """Return the keys or the values of so many tokens in one block."""
        return TensorSpec(name, dtype, (BATCH, self.kv_heads, tokens, self.head))

    def caches(self, prefix: str, dtype: str, tokens: int) -> tuple[TensorSpec, ...]:
        """Return the keys and the values of all blocks, by names such as "past_key.0"."""
        return tuple(
            self.cache(f"{prefix}{part}.{index}", dtype, tokens)
            for index in range(self.blocks)
            for part in ("key", "value")
        )

    def turns(self, positions: int) -> tuple[Array, Array]:
        """Return cosine and sine of each position, shape (positions, head), float32.

        The first half of the sines is negative, for a product with the swapped halves of a head.
        """
        rates = self.theta ** (-np.arange(0, self.head, 2) / self.head)
        angles = np.outer(np.arange(positions), rates)
        cosine, sine = np.cos(angles), np.sin(angles)
        turned = np.concatenate([cosine, cosine], 1), np.concatenate([-sine, sine], 1)
        return turned[0].astype(np.float32), turned[1].astype(np.float32)


def write_prefill(g: GraphBuilder, sizes: DecoderSizes, prompt: int) -> None:
    """Read a prompt of this length: logits and token that follow it, keys and values of each block."""
    later = np.triu(np.full((prompt, prompt), _MASKED, np.float32), 1)
    numbers = zip(("cosine", "sine", "mask"), (*sizes.turns(prompt), later), strict=True)
    attention = _OfPrompt(
        g, sizes, prompt, *(g.constant(name, values, g.dtype) for name, values in numbers)
    )
    x = g.op("Gather", _table(g, sizes), "tokens", channels=sizes.width)
    for index in range(sizes.blocks):
        x = _block(g, sizes, x, index, attention)
    x = g.op("Gather", x, g.constant("last", prompt - 1), axis=1)
    _head(g, sizes, x, "token")


def write_step(g: GraphBuilder, sizes: DecoderSizes, context: int, new_tokens: int) -> None:
    """Read one token beside a cache of this length: the token that follows, new keys and values.

    Positions go from `context` on. After so many new tokens they begin again, as for another sequence.
    """
    cosine, sine = sizes.turns(context + new_tokens)
    turns = (
        g.op("Gather", g.constant(name, values, g.dtype), "position", axis=0, name=f"{name}.now")
        for name, values in (("cosine", cosine), ("sine", sine))
    )
    attention = _OfToken(g, sizes, context, *turns)
    x = g.op("Gather", _table(g, sizes), "token", channels=sizes.width)
    for index in range(sizes.blocks):
        x = _block(g, sizes, x, index, attention)
    x = g.op("Reshape", x, g.constant("rows", (-1, sizes.width)))
    _head(g, sizes, x, "next_token")
    following = [*range(1, context + new_tokens), context]
    g.op("Gather", g.constant("positions", following), "position", name="next_position")


def _table(g: GraphBuilder, sizes: DecoderSizes) -> str:
    return g.table("embeddings", (sizes.vocabulary, sizes.width), _TABLE_STD)


def _head(g: GraphBuilder, sizes: DecoderSizes, x: str, token: str) -> None:
    """Append the logits of the rows of x, and the most likely token."""
    table = "embeddings"
    if not sizes.tied:
        table = g.table("head", (sizes.vocabulary, sizes.width), _TABLE_STD)
    x = _norm(g, x, "norm", sizes.width)
    logits = g.op("Gemm", x, table, name="logits", channels=sizes.vocabulary, transB=1)
    g.op("ArgMax", logits, name=token, axis=1, keepdims=1)


def _norm(g: GraphBuilder, x: str, label: str, width: int) -> str:
    """Append RMSNorm, whose squares and root are fp32 in every graph."""
    wide = g.cast(x, "float32")
    square = g.op("Mul", wide, wide, name=f"{label}.{_WIDE[0]}")
    mean = g.op("ReduceMean", square, name=f"{label}.{_WIDE[1]}", axes=[-1], keepdims=1)
    epsilon = g.constant("epsilon", _EPSILON, "float32")
    power = g.op("Add", mean, epsilon, name=f"{label}.{_WIDE[2]}")
    root = g.op("Sqrt", power, name=f"{label}.{_WIDE[3]}")
    unit = g.cast(g.op("Div", wide, root, name=f"{label}.{_WIDE[4]}"), g.dtype)
    return g.op("Mul", unit, g.weight(f"{label}.w", (width,), 0.1, 1.0), channels=width)


def _block(
    g: GraphBuilder, sizes: DecoderSizes, x: str, index: int, attention: _OfPrompt | _OfToken
) -> str:
    label = f"block_{index}"
    y = _norm(g, x, f"{label}.attention_norm", sizes.width)
    mixed = attention.append(y, index)
    x = g.op("Add", x, g.linear(mixed, sizes.width, f"{label}.out", bias=False))
    y = _norm(g, x, f"{label}.feed_forward_norm", sizes.width)
    gate = g.linear(y, sizes.feed_forward, f"{label}.gate", bias=False)
    gate = g.op("Mul", gate, g.op("Sigmoid", gate))
    wide = g.op("Mul", gate, g.linear(y, sizes.feed_forward, f"{label}.up", bias=False))
    return g.op("Add", x, g.linear(wide, sizes.width, f"{label}.down", bias=False))


@dataclass(frozen=True)
class _Turned:
    """What both kinds of attention have: rotary positions.

    Attributes:
        g: the graph.
        sizes: of the decoder.
        tokens: in the prompt, or in the cache.
        cosine: value with the cosines of the positions, shape (positions, head).
        sine: the same of the sines.
    """

    g: GraphBuilder
    sizes: DecoderSizes
    tokens: int
    cosine: str
    sine: str

    def project(self, x: str, part: str, index: int, heads: int) -> str:
        """Append the layer of queries, keys or values."""
        return self.g.linear(x, heads * self.sizes.head, f"block_{index}.{part}", bias=False)

    def turn(self, x: str, name: str | None = None) -> str:
        """Append the rotation of the last axis."""
        g, half = self.g, self.sizes.head // 2
        swapped = g.op("Concat", _part(g, x, half, 2 * half), _part(g, x, 0, half), axis=-1)
        still = g.op("Mul", x, self.cosine)
        return g.op("Add", still, g.op("Mul", swapped, self.sine), name=name)

    def scaled(self, query: str) -> str:
        """Append the scale of the scores, to the queries, of which there are fewer."""
        scale = self.g.constant("scale", 1 / math.sqrt(self.sizes.head), self.g.dtype)
        return self.g.op("Mul", query, scale)


@dataclass(frozen=True)
class _OfPrompt(_Turned):
    """Attention of all tokens of a prompt to those before them.

    Attributes:
        mask: value that is added to the scores, shape (prompt, prompt).
    """

    mask: str

    def append(self, x: str, index: int) -> str:
        """Append the attention of a block, before its last layer; names its keys and values."""
        g, sizes = self.g, self.sizes
        group = sizes.heads // sizes.kv_heads
        query = self.scaled(self.turn(self._heads(x, "query", index, sizes.heads)))
        key = self.turn(self._heads(x, "key", index, sizes.kv_heads), f"key.{index}")
        value = self._heads(x, "value", index, sizes.kv_heads, f"value.{index}")
        rows = (0, sizes.kv_heads, group * self.tokens)  # of the heads that share keys and values
        query = g.op("Reshape", query, g.constant("shared", (*rows, sizes.head)))
        scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2]))
        squares = (0, sizes.heads, self.tokens, self.tokens)
        scores = g.op("Reshape", scores, g.constant("squares", squares))
        shares = g.op("Softmax", g.op("Add", scores, self.mask), axis=-1)
        shares = g.op("Reshape", shares, g.constant("shares", (*rows, self.tokens)))
        mixed = g.op("MatMul", shares, value)
        split = g.constant("single", (0, sizes.heads, self.tokens, sizes.head))
        mixed = g.op("Transpose", g.op("Reshape", mixed, split), perm=[0, 2, 1, 3])
        width = sizes.heads * sizes.head
        merged = g.constant("merged", (0, self.tokens, width))
        return g.op("Reshape", mixed, merged, channels=width)

    def _heads(self, x: str, part: str, index: int, heads: int, name: str | None = None) -> str:
        """Append a layer, its result as (N, heads, tokens, head)."""
        split = self.g.constant(f"{heads}_heads", (0, self.tokens, heads, self.sizes.head))
        y = self.g.op("Reshape", self.project(x, part, index, heads), split)
        return self.g.op("Transpose", y, perm=[0, 2, 1, 3], name=name)


@dataclass(frozen=True)
class _OfToken(_Turned):
    """Attention of one token to those of a cache and to itself."""

    def append(self, x: str, index: int) -> str:
        """Append the attention of a block, before its last layer; names its new key and value."""
        g, sizes = self.g, self.sizes
        group = sizes.heads // sizes.kv_heads
        query = self.scaled(self.turn(self._heads(x, "query", index, group)))
        key = self.turn(self._heads(x, "key", index, 1), f"new_key.{index}")
        value = self._heads(x, "value", index, 1, f"new_value.{index}")
        of_past, of_new = (
            g.op("MatMul", query, g.op("Transpose", keys, perm=[0, 1, 3, 2]))
            for keys in (f"past_key.{index}", key)
        )
        shares = g.op("Softmax", g.op("Concat", of_past, of_new, axis=-1), axis=-1)
        past = g.op("MatMul", _part(g, shares, 0, self.tokens), f"past_value.{index}")
        new = g.op("MatMul", _part(g, shares, self.tokens, self.tokens + 1), value)
        width = sizes.heads * sizes.head
        merged = g.constant("merged", (0, 1, width))
        return g.op("Reshape", g.op("Add", past, new), merged, channels=width)

    def _heads(self, x: str, part: str, index: int, group: int, name: str | None = None) -> str:
        """Append a layer, its result as (N, heads of keys, heads that share one, head)."""
        sizes = self.sizes
        split = self.g.constant(f"groups_of_{group}", (0, sizes.kv_heads, group, sizes.head))
        y = self.project(x, part, index, sizes.kv_heads * group)
        return self.g.op("Reshape", y, split, name=name)


def _part(g: GraphBuilder, x: str, start: int, end: int) -> str:
    """Append the numbers of a range of the last axis."""
    bounds = (g.constant(f"at_{place}", (place,)) for place in (start, end))
    return g.op("Slice", x, *bounds, g.constant("last_axis", (-1,)))

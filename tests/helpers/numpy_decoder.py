"""A decoder that generates token by token, written with numpy alone, to judge graphs by.

It shares nothing with the graphs but the weights by name: whole matrices, no cache that is reused, no
groups of heads at once, rotations by complex numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.models.decoder import DecoderSizes

    Array = np.ndarray[Any, Any]


@dataclass
class NumpyDecoder:
    """One sequence: `read` takes the next token and returns the logits of the one after it.

    Attributes:
        sizes: of the decoder.
        weights: by name in the graphs.
        window: how many tokens before it a token sees; None for all.
    """

    sizes: DecoderSizes
    weights: Mapping[str, Array]
    window: int | None = None
    seen: list[tuple[list[Array], list[Array]]] = field(default_factory=list)
    position: int = 0

    def __post_init__(self) -> None:
        self.seen = [([], []) for _ in range(self.sizes.blocks)]

    def read(self, token: int) -> Array:
        """Return the logits after one token more, in float64, shape (vocabulary,)."""
        x = self.weights["embeddings"][token].astype(np.float64)
        for index in range(self.sizes.blocks):
            label = f"block_{index}"
            x = x + self._attention(self._norm(x, f"{label}.attention_norm"), index)
            y = self._norm(x, f"{label}.feed_forward_norm")
            gate = y @ self.weights[f"{label}.gate.w"]
            wide = gate / (1 + np.exp(-gate)) * (y @ self.weights[f"{label}.up.w"])
            x = x + wide @ self.weights[f"{label}.down.w"]
        self.position += 1
        table = self.weights["embeddings" if self.sizes.tied else "head"]
        return table @ self._norm(x, "norm")

    def _norm(self, x: Array, label: str) -> Array:
        return x / np.sqrt(np.mean(x**2) + 1e-5) * self.weights[f"{label}.w"]

    def _turned(self, vector: Array) -> Array:
        """Return a head turned by the angles of the position, as complex numbers."""
        half = self.sizes.head // 2
        angles = self.position / self.sizes.theta ** (np.arange(half) / half)
        turned = (vector[:half] + 1j * vector[half:]) * np.exp(1j * angles)
        return np.concatenate([turned.real, turned.imag])

    def _attention(self, x: Array, index: int) -> Array:
        sizes, label = self.sizes, f"block_{index}"
        query, key, value = (
            (x @ self.weights[f"{label}.{part}.w"]).reshape(-1, sizes.head)
            for part in ("query", "key", "value")
        )
        keys, values = self.seen[index]
        keys.append(np.stack([self._turned(head) for head in key]))
        values.append(value)
        if self.window is not None:
            del keys[: -1 - self.window], values[: -1 - self.window]
        mixed = []
        for number, head in enumerate(query):
            shared = number * sizes.kv_heads // sizes.heads
            scores = np.array([self._turned(head) @ each[shared] for each in keys])
            shares = np.exp((scores - scores.max()) / np.sqrt(sizes.head))
            mixed.append(shares / shares.sum() @ np.array([each[shared] for each in values]))
        return np.concatenate(mixed) @ self.weights[f"{label}.out.w"]

"""Decoders: time to the first token, time per output token, tokens/s and requests, over batch and context.

A decoder is two models: `NAME_prefill` computes a prompt, `NAME_step` one more token of each sequence. The
times are the engine's part alone: no tokeniser, scheduler or network is in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.ceilings import MeasuredCeilings
from raybench.analysis.cells import cells
from raybench.analysis.decoder_ladders import DecoderLadder, ladders
from raybench.analysis.decoder_points import PARTS, DecoderPoint, decoder_point, part_of
from raybench.analysis.decoder_requests import DecoderRequest, requests, why_none
from raybench.analysis.tables import as_table
from raybench.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Decoding:
    """What the rows of decoders say.

    Attributes:
        points: of all decoders.
        ladders: over batch, prompt and context.
        requests: of each prompt with the steps that follow it.
        missing: what could not be said and why, a sentence each.
    """

    points: tuple[DecoderPoint, ...]
    ladders: tuple[DecoderLadder, ...]
    requests: tuple[DecoderRequest, ...]
    missing: tuple[str, ...]

    def as_table(self) -> pa.Table:
        """Return a row for each point."""
        return as_table(DecoderPoint, self.points)


def decoding(trials: pa.Table, new_tokens: int | None = None) -> Decoding:
    """Return times and rates of the decoders in a `trials` table.

    Args:
        trials: as `raybench.load` returns it.
        new_tokens: of a request; None takes what the steps were measured with.

    Raises:
        ConfigError: `new_tokens` is no whole number from 1 on.
    """
    if new_tokens is not None and (type(new_tokens) is not int or new_tokens < 1):
        raise ConfigError(
            f"new_tokens={new_tokens!r} is no whole number from 1 on. Give the tokens that a request generates, or "
            "leave it out for those that were measured."
        )
    every = cells(trials)
    measured = MeasuredCeilings(every)
    points = [
        decoder_point(cell, part, measured)
        for cell in every
        if (part := part_of(cell)) is not None and not cell.series.is_open
    ]
    answers = list(requests(points, new_tokens))
    curves = [one for along in ("batch_size", *PARTS.values()) for one in ladders(points, along)]
    refuted = tuple(one.in_words() for one in measured.refuted) if points else ()
    missing = (*((why_none(points),) if points and not answers else ()), *refuted)
    return Decoding(tuple(points), tuple(curves), tuple(answers), missing)

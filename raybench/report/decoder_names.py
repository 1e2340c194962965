"""Names of ladders of decoders, which leave out the factor that a ladder is along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.analysis.series import without
from raybench.experiment import LENGTHS
from raybench.report.labels import Naming, joined, workers_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.decoder_ladders import DecoderLadder
    from raybench.analysis.decoder_points import DecoderPoint
    from raybench.analysis.decoder_requests import DecoderRequest


def naming_of(items: Sequence[DecoderPoint] | Sequence[DecoderRequest]) -> Naming:
    """Return the naming of decoders by what differs beside their part and lengths."""
    return Naming(without(item.series, "model", *LENGTHS) for item in items)


def curve_name(ladder: DecoderLadder, every: Sequence[DecoderLadder]) -> str:
    """Return what tells a ladder from the others: the factors that differ, but its own."""
    points = [point for one in every for point in one.points]
    naming = Naming(without(point.series, "model", "new_tokens") for point in points)
    return naming.label(ladder.points[0].series, without=(ladder.along,))


def ladder_name(ladder: DecoderLadder, every: Sequence[DecoderLadder]) -> str:
    """Return the name of a ladder: its decoder and part, what else differs, and its devices."""
    workers = workers_label(ladder.workers)
    return joined(f"{ladder.name}, {ladder.part}", curve_name(ladder, every), workers)

"""Cuts a stream into blocks at completions, and counts items between two instants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Blocks:
    """Consecutive blocks of batches between edges; an edge is the completion of a batch.

    Attributes:
        edges: int64, shape (k + 1,): index of the batch whose completion is the edge.
        edge_ns: int64, shape (k + 1,): time of that completion.
        cells: int64, shape (k + 1,): grid cell that each edge lies in, rising.
        items: int64, shape (k,): items completed after one edge and up to the next.
    """

    edges: NDArray[np.int64]
    edge_ns: NDArray[np.int64]
    cells: NDArray[np.int64]
    items: NDArray[np.int64]

    @property
    def rates(self) -> NDArray[np.float64]:
        """Items per second of each block, shape (k,): items over the time between its edges."""
        rates: NDArray[np.float64] = self.items * 1e9 / np.diff(self.edge_ns)
        return rates

    def __len__(self) -> int:
        return len(self.items)


def cut(
    done_ns: NDArray[np.int64], start_ns: int, block_ns: int, min_batches: int, batch_size: int
) -> Blocks:
    """Cut completions into blocks on a grid that starts at the common start.

    Edge k is the first completion at or after start + k * block with at least `min_batches`
    batches since the previous edge (method.md, section 1). The rate of a block is then not
    quantised by whole batches, and the blocks of different workers coincide. A grid point without
    such a completion before the next one (a stall, a slow batch) has no edge, and the block before
    it covers several cells of the grid.

    Args:
        done_ns: completions, int64, shape (n,), rising.
        start_ns: start of the grid, same clock.
        block_ns: length of a block.
        min_batches: fewest batches between two edges.
        batch_size: items of a batch.
    """
    edges: list[int] = []
    if len(done_ns):
        grid = np.arange(start_ns, int(done_ns[-1]) + 1, block_ns)
        first_after = np.searchsorted(done_ns, grid, side="left").tolist()
        for point, index in zip(grid.tolist(), first_after, strict=True):
            edge = max(index, edges[-1] + min_batches) if edges else index
            if edge < len(done_ns) and done_ns[edge] < point + block_ns:
                edges.append(edge)
    chosen = np.array(edges, np.int64)
    items = np.diff(chosen) * batch_size if len(chosen) else np.empty(0, np.int64)
    edge_ns = done_ns[chosen] if len(chosen) else np.empty(0, np.int64)
    return Blocks(chosen, edge_ns, (edge_ns - start_ns) // block_ns, items)


def by_cell(
    per_block: NDArray[np.float64], edge_ns: NDArray[np.int64], block_ns: int
) -> NDArray[np.float64]:
    """Return one value for each grid cell from the first edge to the last.

    It is the value of the block that lies in the cell. A block that a stall stretches counts in every
    cell by the time that it covers of it, so the mean over cells is weighted by time, as items over
    time is, and the same cell of two workers is the same second.

    Args:
        per_block: float64, shape (k,): a value of each block.
        edge_ns: int64, shape (k + 1,): time of each edge since the start of the grid.
        block_ns: length of a cell.
    """
    cells = edge_ns // block_ns
    after_gap = np.diff(cells, prepend=cells[0]) > 1
    places = np.where(after_gap, edge_ns / block_ns, cells)  # in cells
    sums = np.concatenate([[0.0], np.cumsum(per_block * np.diff(places))])
    return np.diff(np.interp(np.arange(cells[0], cells[-1] + 1), places, sums))


def items_between(
    done_ns: NDArray[np.int64], begin_ns: float, end_ns: float, batch_size: int
) -> float:
    """Return the items completed between two instants, with partial batches in proportion.

    Work is taken as even between two completions. At an instant that is itself a completion this
    is a plain count, so the window of a single worker is exact. A window common to several workers
    is free of the error of one batch at each end.

    Args:
        done_ns: completions, int64, shape (n,), rising.
        begin_ns: first instant, same clock.
        end_ns: second instant.
        batch_size: items of a batch.
    """
    batches = np.interp([begin_ns, end_ns], done_ns, np.arange(len(done_ns), dtype=np.float64))
    return float(batches[1] - batches[0]) * batch_size

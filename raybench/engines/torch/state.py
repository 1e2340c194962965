"""A model's state as tensors of a device, renewed by the outputs of each batch where they lie."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from raybench.engines.torch.conversion import state_type, tensor_of
from raybench.models.items.initial_state import InitialState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.engines.base import Load
    from raybench.models.state import StateTensor


@dataclass(frozen=True, eq=False)
class AlikeRings:
    """Rings of one shape and axis, which lie in one block so that two calls renew all of them.

    Attributes:
        rings: what they are, in order.
        block: their content, shape (rings, *shape of one).
        axis: of the block, along which they are rings.
        place: where the next batch writes, on the device: a captured graph moves it on as well.
    """

    rings: tuple[StateTensor, ...]
    block: Any
    axis: int
    place: Any

    def renew(self, outputs: Mapping[str, Any]) -> None:
        """Write the new rows of a batch."""
        rows = torch.stack([outputs[ring.output] for ring in self.rings])
        self.block.index_copy_(self.axis, self.place, rows)
        self.place.add_(1).remainder_(self.block.shape[self.axis])


class TorchState:
    """The inputs that a device keeps.

    Args:
        load: what the engine loads.
        device: where they lie.

    Attributes:
        tensors: the inputs by name, which stay where they lie.
    """

    def __init__(self, load: Load, device: Any) -> None:
        model, size = load.model, load.batches.batch_size
        self._initial = InitialState.of(model, load.batches)
        self._types = {spec.name: np.dtype(spec.dtype) for spec in model.state_inputs}
        shapes = {spec.name: spec.with_batch(size) for spec in model.state_inputs}
        types = {spec.name: state_type(model, spec) for spec in model.state_inputs}
        self._replaced = [each for each in model.state if each.ring_axis is None]
        self.tensors = {
            each.input: torch.empty(shapes[each.input], dtype=types[each.input], device=device)
            for each in self._replaced
        }
        alike: defaultdict[Any, list[StateTensor]] = defaultdict(list)
        for each in model.state:
            if each.ring_axis is not None:
                alike[shapes[each.input], types[each.input], each.ring_axis].append(each)
        self._rings = []
        for (shape, dtype, axis), rings in alike.items():
            block = torch.empty((len(rings), *shape), dtype=dtype, device=device)
            place = torch.zeros(1, dtype=torch.int64, device=device)
            self._rings.append(AlikeRings(tuple(rings), block, 1 + axis, place))
            self.tensors |= {ring.input: block[i] for i, ring in enumerate(rings)}
        self.restart()

    def renew(self, outputs: Mapping[str, Any]) -> None:
        """Write what the next batch reads where this one read it: graphs hold addresses.

        Args:
            outputs: all of the batch, by name.
        """
        for each in self._replaced:
            self.tensors[each.input].copy_(outputs[each.output])
        for rings in self._rings:
            rings.renew(outputs)

    def restart(self) -> None:
        """Put back what batch 0 reads, one tensor after another."""
        with torch.inference_mode():
            for name, tensor in self.tensors.items():
                array = np.empty(tuple(tensor.shape), self._types[name])
                self._initial.write(name, array)
                tensor.copy_(tensor_of(array))
            for rings in self._rings:
                rings.place.zero_()

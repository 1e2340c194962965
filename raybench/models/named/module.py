"""A module as it is exported: tensors in, tensors out, by name; and what is said when it is not so."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch

SIMILAR = 5
"""How many names are proposed for an unknown one."""


class NotTensorsError(Exception):
    """A module whose outputs are no tensors; the message continues "Model ...", and ends with advice."""


class NotTheSameError(Exception):
    """A graph that computes something else than its module; the message says where."""


@dataclass
class ExportStep:
    """What the process does now, for the message of a failure.

    Attributes:
        now: in words.
        depends_on_sizes: whether inputs of another size might do.
    """

    now: str
    depends_on_sizes: bool = False


@dataclass(frozen=True)
class BuiltModule:
    """A module in eval mode with its weights.

    Attributes:
        module: as its package makes it.
        by_name: whether it takes its inputs by name.
        fixed: further arguments of its forward pass.
        notes: what a row must say of it, a sentence each.
    """

    module: torch.nn.Module
    by_name: bool = False
    fixed: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        """Return whatever a forward pass returns."""
        if self.by_name:
            return self.module(**inputs, **self.fixed)
        return self.module(*inputs.values(), **self.fixed)


def tensors_of(result: Any) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the tensors that a forward pass has returned, by name, and the names of what is left out.

    Raises:
        NotTensorsError: there are none.
    """
    import torch

    if isinstance(result, torch.Tensor):
        return {"output": result}, []
    if hasattr(result, "items"):
        entries = {str(name): value for name, value in result.items()}
    elif isinstance(result, tuple | list) and result:
        entries = {f"output_{place}": value for place, value in enumerate(result)}
    else:
        entries = {}
    tensors = {
        name: value
        for name, value in entries.items()
        if isinstance(value, torch.Tensor) and name != _OF_ENCODER
    }
    if not tensors:
        raise NotTensorsError(f"returns {_kind(result)}, and {_WHY}")
    return tensors, [name for name in entries if name not in tensors]


_OF_ENCODER = "encoder_last_hidden_state"
"""What a decoder reads; nobody takes it to the host as well."""
_WHY = (
    "engines are measured with outputs that are tensors. Export the part of it that computes tensors, such as "
    "its backbone, and give the path of the file."
)


def _kind(result: Any) -> str:
    name = type(result).__name__
    inner = next(iter(result), None) if isinstance(result, tuple | list) else None
    return f"a {name}" if inner is None else f"a {name} of {type(inner).__name__}"


def similar(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that are most like one, the best first; possibly none."""
    return difflib.get_close_matches(name, list(names), n=SIMILAR, cutoff=0.4)

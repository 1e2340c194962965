"""The names of models that other packages define, and the packages that each needs."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib import metadata

from typing_extensions import override

from raybench.errors import ModelError

PACKAGES = {
    "timm": ("timm", "torch"),
    "torchvision": ("torchvision", "torch"),
    "hf": ("transformers", "torch"),
}
"""Packages behind each prefix, that with the models first."""


@dataclass(frozen=True)
class NamedModel:
    """A model of another package.

    Attributes:
        library: "timm", "torchvision" or "hf".
        name: its name there; for "hf" a name on the hub, a family, or a folder in the hub's format.
    """

    library: str
    name: str

    @classmethod
    def parse(cls, model: str) -> NamedModel | None:
        """Return the model that a word such as "timm:resnet18" names; None for any other word."""
        library, colon, name = model.partition(":")
        return cls(library, name) if colon and library in PACKAGES else None

    @override
    def __str__(self) -> str:
        return f"{self.library}:{self.name}"

    @property
    def packages(self) -> dict[str, str]:
        """Versions of the packages that decide what the model is.

        Raises:
            ModelError: one of them is not installed.
        """
        names = PACKAGES[self.library]
        missing = [name for name in names if importlib.util.find_spec(name) is None]
        if missing:
            raise ModelError(
                f"Model {str(self)!r} is exported by packages that are not installed: {', '.join(missing)}. "
                "Install raybench[torch], or give the path of an ONNX file."
            )
        return {name: metadata.version(name) for name in names}


def installed(library: str) -> bool:
    """Return whether the models of a prefix can be exported here; imports nothing."""
    return all(importlib.util.find_spec(name) is not None for name in PACKAGES[library])

"""Models of torchvision, with the input size that their trained weights ask for."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from raybench.models.named.module import BuiltModule, similar

_SIDE = 224
_FRAMES = 16
"""Usual sizes of an image and of a video, where no weights say another."""


def describe(request: dict[str, Any]) -> dict[str, Any]:
    """Return inputs and places of weights, or similar names for an unknown one."""
    from torchvision import models

    name = request["name"]
    if name not in models.list_models():
        return {"near": similar(name, models.list_models())}
    kind = models.get_model_builder(name).__module__
    weights = _weights(name)
    side = _side(weights[0]) if weights else _SIDE
    video = ".video" in kind
    frames: list[int | str] = ["frames"] if video else []
    fixed = kind.endswith("vision_transformer")
    dims = ["N", 3, *frames, *([side, side] if fixed else ["height", "width"])]
    sizes = {} if fixed else {"height": side, "width": side}
    return {
        "inputs": [["data", "float32", dims]],
        "sizes": {**sizes, **({"frames": _FRAMES} if video else {})},
        "ranges": {},
        "places": [["", _file(each)] for each in weights],
    }


def build(request: dict[str, Any]) -> BuiltModule:
    """Return the module, with trained weights of a file or random ones."""
    from torchvision import models

    name = request["name"]
    if request["weights"]:
        file = Path(request["weights"][0]).name
        trained = next(each for each in _weights(name) if _file(each) == file)
        return BuiltModule(
            models.get_model(name, weights=trained)
        )  # reads the file, which is there
    takes = inspect.signature(models.get_model_builder(name)).parameters
    off = {
        key: value for key, value in _RANDOM.items() if key in takes or key in _HIDDEN.get(name, ())
    }
    return BuiltModule(models.get_model(name, **off))


_RANDOM: dict[str, Any] = {
    "weights": None,
    "weights_backbone": None,
    "aux_logits": False,
    "init_weights": True,
}
"""Arguments for a model without trained weights; auxiliary heads compute nothing after training."""
_HIDDEN = dict.fromkeys(("googlenet", "inception_v3"), ("aux_logits", "init_weights"))
"""Those that are not in the signature of the builder."""


def _weights(name: str) -> list[Any]:
    """Return the trained weights of a model, the default first."""
    from torchvision import models

    try:
        known = models.get_model_weights(name)
    except ValueError:
        return []
    default = getattr(known, "DEFAULT", None)
    return sorted(known, key=lambda each: each is not default)


def _file(weights: Any) -> str:
    return str(weights.url).rpartition("/")[2]


def _side(weights: Any) -> int:
    """Return the size of the images that weights were trained for."""
    transforms = weights.transforms()
    size = getattr(transforms, "crop_size", None) or getattr(transforms, "resize_size", None)
    return int(size[-1]) if size else _SIDE

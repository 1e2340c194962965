"""Models of timm, with the input size of their pretrained configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.models.named.module import BuiltModule, similar

if TYPE_CHECKING:
    import torch


def describe(request: dict[str, Any]) -> dict[str, Any]:
    """Return inputs and places of weights, or similar names for an unknown one."""
    import timm

    name = request["name"]
    if not timm.is_model(name):
        return {"near": similar(name, timm.list_models())}
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # the model has no weights of this tag
        config = None
    if config is None:
        tags = [
            each for each in timm.list_pretrained() if each.startswith(name.split(".")[0] + ".")
        ]
        return {"near": similar(name, [name.split(".")[0], *tags])}
    channels, height, width = config.input_size
    fixed = config.fixed_input_size
    dims = ["N", channels, *([height, width] if fixed else ["height", "width"])]
    files = [config.hf_hub_filename] if config.hf_hub_filename else _FILES
    places = [[config.hf_hub_id, file] for file in files if config.hf_hub_id]
    if config.url:
        places.append(["", str(config.url).rpartition("/")[2]])
    return {
        "inputs": [["data", "float32", dims]],
        "sizes": {} if fixed else {"height": height, "width": width},
        "ranges": {},
        "places": places,
    }


def build(request: dict[str, Any]) -> BuiltModule:
    """Return the module, with trained weights of a file or random ones."""
    import timm

    weights = (
        {"pretrained_cfg_overlay": {"file": request["weights"][0]}} if request["weights"] else {}
    )
    module: torch.nn.Module = timm.create_model(
        request["name"], pretrained=bool(weights), exportable=True, **weights
    )
    return BuiltModule(module)


_FILES = ("model.safetensors", "pytorch_model.bin")

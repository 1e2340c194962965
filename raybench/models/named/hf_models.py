"""Models of transformers: a repository of the hub, a folder in its format, or a family as it is by default.

Inputs follow from the arguments of the forward pass and from the configuration.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from raybench.models.named.module import BuiltModule, similar

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKENS, _DECODER_TOKENS = 128, 16
"""Tokens of an item, and those that a decoder beside an encoder has read, where the user says nothing."""
_SAMPLES = 16_000
"""Samples of raw audio: one second."""
_SIDE = 224


def describe(request: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs, or similar families for a name that is none and has no folder.

    Raises:
        ValueError: the model has an input that raybench cannot make.
    """
    from transformers import CONFIG_MAPPING

    if request["folder"] is None and request["name"] not in CONFIG_MAPPING:
        return {"near": similar(request["name"].rpartition("/")[2], CONFIG_MAPPING)}
    config = _config(request)
    inputs = _inputs(config, _class_of(config))
    symbols = {dim for _, _, dims in inputs for dim in dims}
    return {
        "inputs": inputs,
        "sizes": {key: size for key, size in _sizes(config).items() if key in symbols},
        "ranges": {name: _range(config, name) for name, dtype, _ in inputs if dtype == "int64"},
        "places": [],
    }


def fetch(name: str) -> dict[str, Any]:
    """Bring the configuration of a repository into the user's cache; return "reason" if that fails."""
    from huggingface_hub import hf_hub_download

    repository, _, revision = name.partition("@")
    try:
        hf_hub_download(repository, "config.json", revision=revision or None)
    except Exception as error:  # noqa: BLE001 - of the hub, of the network, or of the name
        lines = str(error).strip().splitlines()
        return {"reason": f"{type(error).__name__}: {lines[0].rstrip('.') if lines else ''}"}
    return {}


def build(request: dict[str, Any]) -> BuiltModule:
    """Return the module, with trained weights of the folder or random ones."""
    config = _config(request)
    kind = _class_of(config)
    _refuse_large(kind, config)
    missing: list[str] = []
    if request["weights"]:
        module, loaded = kind.from_pretrained(
            request["folder"], config=config, local_files_only=True, output_loading_info=True
        )
        missing = sorted(loaded["missing_keys"])
    else:
        module = kind(config)
    module = module.float()
    if hasattr(module, "set_attn_implementation"):  # plain products and Softmax, for every engine
        module.set_attn_implementation("eager")
    taken = inspect.signature(kind.forward).parameters
    fixed = {key: value for key, value in _FIXED.items() if key in taken}
    return BuiltModule(module, by_name=True, fixed=fixed, notes=_notes(missing))


def _notes(missing: list[str]) -> tuple[str, ...]:
    """Return what to say of weights that the files lack, which are random."""
    if not missing:
        return ()
    more = f" and {len(missing) - 1} more" if missing[1:] else ""
    return (f"Random all the same, as the files lack them: {missing[0]}{more}.",)


def _refuse_large(kind: Any, config: Any) -> None:
    """Refuse a model before it fills the memory.

    Raises:
        ValueError: naming its size and what is free.
    """
    import psutil
    import torch

    try:
        with torch.device("meta"):
            parameters = sum(weight.numel() for weight in kind(config).parameters())
    except Exception:  # noqa: BLE001 - some cannot be built without values; they are built with them
        return
    needed, free = parameters * _BYTES_A_PARAMETER, psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"its {parameters:,} parameters need about {needed / 2**30:.0f} GiB of memory to be exported in "
            f"fp32, and {free / 2**30:.0f} GiB are free"
        )


_BYTES_A_PARAMETER = 16
"""In fp32: those of the module, of the graph, of its file in the page cache and of the session that checks it."""
_FIXED = {"return_dict": True, "use_cache": False}


def _config(request: dict[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    if request["folder"] is None:
        return CONFIG_MAPPING[request["name"]]()
    return AutoConfig.from_pretrained(
        request["folder"], local_files_only=True, trust_remote_code=False
    )


def _class_of(config: Any) -> Any:
    """Return the class that a checkpoint names, else that of the family without a head.

    Raises:
        ValueError: transformers has neither.
    """
    import transformers

    named = config.architectures or ()
    for name in named:
        if hasattr(transformers, name):
            return getattr(transformers, name)
    if named:
        raise ValueError(
            f"transformers {transformers.__version__} has no class {' or '.join(named)}, which it names"
        )
    try:
        kind = transformers.MODEL_MAPPING[type(config)]
    except KeyError as error:
        raise ValueError(
            f"transformers has no plain model of family {config.model_type!r}"
        ) from error
    return kind[0] if isinstance(kind, tuple) else kind


def _inputs(config: Any, kind: Any) -> list[tuple[str, str, list[int | str]]]:
    """Return name, type and dimensions of each input.

    Raises:
        ValueError: naming an input whose shape is not known.
    """
    takes = inspect.signature(kind.forward).parameters
    main = kind.main_input_name
    known = _known_inputs(config)
    if main not in known:
        raise ValueError(
            f"its input {main!r} has a shape that raybench does not know; it knows {', '.join(known)}"
        )
    names = [main]
    if {"pixel_values", "input_ids"} <= takes.keys() and hasattr(config, "vision_config"):
        names = ["input_ids", "pixel_values"]
    if "input_ids" in names:
        names += [name for name in ("attention_mask",) if name in takes]
        names += [
            name
            for name in ("token_type_ids",)
            if name in takes and getattr(config, "type_vocab_size", 0) > 1
        ]
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in takes:
        names.append("decoder_input_ids")
        names += [name for name in ("decoder_attention_mask",) if name in takes]
    return [(name, *known[name]) for name in names]


def _known_inputs(config: Any) -> dict[str, tuple[str, list[int | str]]]:
    tokens: list[int | str] = ["N", "sequence"]
    vision = getattr(config, "vision_config", config)
    frames = getattr(vision, "num_frames", None)
    channels = getattr(vision, "num_channels", 3)
    pixels = ["N", *([frames] if frames else []), channels, *_image(vision)]
    bands = getattr(config, "num_mel_bins", 80)
    positions = getattr(config, "max_source_positions", None)
    features = ["N", bands, 2 * positions] if positions else ["N", "frames", bands]
    spectrogram = hasattr(config, "num_mel_bins") and hasattr(config, "max_length")
    samples = ["N", config.max_length, bands] if spectrogram else ["N", "samples"]
    return {
        "input_ids": ("int64", tokens),
        "attention_mask": ("int64", tokens),
        "token_type_ids": ("int64", tokens),
        "decoder_input_ids": ("int64", ["N", "decoder_sequence"]),
        "decoder_attention_mask": ("int64", ["N", "decoder_sequence"]),
        "pixel_values": ("float32", pixels),
        "input_features": ("float32", features),
        "input_values": ("float32", samples),
    }


def _range(config: Any, name: str) -> list[int]:
    """Return the lowest and highest value of an integer input; a mask without padding is all 1."""
    if name.endswith("attention_mask"):
        return [1, 1]
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    count = config.type_vocab_size if name == "token_type_ids" else text.vocab_size
    return [0, count - 1]


def _image(vision: Any) -> list[int | str]:
    """Return height and width: numbers where the model takes no others."""
    size = getattr(vision, "image_size", None)
    if size is None:
        return ["height", "width"]
    return [int(size), int(size)] if isinstance(size, int) else [int(each) for each in size]


def _sizes(config: Any) -> Mapping[str, int]:
    """Return what a symbol stands for where the user has not set it."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    most = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)
    return {
        "sequence": min(_TOKENS, most) if isinstance(most, int) and most > 0 else _TOKENS,
        "decoder_sequence": _DECODER_TOKENS,
        "height": _SIDE,
        "width": _SIDE,
        "samples": _SAMPLES,
        "frames": 100,
    }

"""Resize: an image in another size, by the rules of ONNX that PyTorch has as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody names it

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.engines.torch.operator_call import OperatorCall
    from raybench.engines.torch.operators.elementwise import Handler
    from raybench.engines.torch.writer import Value

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_WHOLE = 1e-3
"""A size times its scale is a whole number up to this."""
_ROUNDINGS: dict[str, Callable[[Any], Any]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda places: np.ceil(places - 0.5),
    "round_prefer_ceil": lambda places: np.floor(places + 0.5),
}


def _upsample(op: OperatorCall) -> Any:
    scales = op.attribute("scales", None)
    scales = op.constant(1) if scales is None else np.asarray(scales)
    if op.attribute("mode", "nearest") != "nearest" or scales is None:
        raise op.refusal("in another mode than nearest")
    sizes = [int(size * scale) for size, scale in zip(op.input().shape, scales, strict=True)]
    return _nearest(op, sizes, scales, "asymmetric", "floor")


def _resize(op: OperatorCall) -> Any:
    x = op.input()
    if op.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise op.refusal("that keeps the aspect ratio")
    axes = op.attribute("axes", None) or list(range(x.rank))
    scales, sizes = np.ones(x.rank), list(x.shape)
    before_11 = op.opset < 11
    given = op.constant(1 if before_11 else 2)
    if given is not None and given.size:
        for axis, scale in zip(axes, given, strict=True):
            scales[axis] = scale
            sizes[axis] = int(np.floor(x.shape[axis] * scale))
    else:
        for axis, size in zip(axes, op.ints(3) or [], strict=True):
            scales[axis], sizes[axis] = size / x.shape[axis], size
    mode = op.attribute("mode", "nearest")
    place = op.attribute(
        "coordinate_transformation_mode", "asymmetric" if before_11 else "half_pixel"
    )
    if mode == "nearest":
        rounding = op.attribute("nearest_mode", "floor" if before_11 else "round_prefer_floor")
        return _nearest(op, sizes, scales, place, rounding)
    if any(
        abs(old * scale - new) > _WHOLE
        for old, scale, new in zip(x.shape, scales, sizes, strict=True)
    ):
        raise op.refusal(f"in mode {mode!r} with scales that give no whole sizes")
    return _interpolated(op, sizes, mode, place)


def _nearest(op: OperatorCall, sizes: list[int], scales: Any, place: str, rounding: str) -> Any:
    """Return the nearest elements: in one call where each is repeated, else one call a dimension."""
    x: Value = op.input()
    plain = True
    moved: dict[int, Any] = {}
    for axis, (size, scale) in enumerate(zip(sizes, scales, strict=True)):
        if size == x.shape[axis]:
            continue
        index = _source_index(op, x.shape[axis], size, float(scale), (place, rounding))
        repeated = np.arange(size) * x.shape[axis] // size
        plain = plain and axis > 1 and bool((index == repeated).all())
        moved[axis] = index
    if not moved:
        return x
    if plain and x.rank in (3, 4, 5):
        return op.call(F.interpolate, x, size=tuple(sizes[2:]), mode="nearest")
    for axis, index in moved.items():
        chosen = op.call(torch.from_numpy, index)
        x = op.call(torch.index_select, x, axis, chosen)
    return x


def _source_index(op: OperatorCall, old: int, new: int, scale: float, rule: tuple[str, str]) -> Any:
    """Return which element each new one is taken from."""
    place, rounding = rule
    wanted = np.arange(new, dtype=np.float64)
    if place == "asymmetric":
        places = wanted / scale
    elif place == "align_corners":
        places = wanted * (old - 1) / max(new - 1, 1)
    elif place == "half_pixel" or (place == "pytorch_half_pixel" and new > 1):
        places = (wanted + 0.5) / scale - 0.5
    elif place == "pytorch_half_pixel":
        places = np.zeros(1)
    else:
        raise op.refusal(f"with coordinate_transformation_mode {place!r}")
    return np.clip(_ROUNDINGS[rounding](places), 0, old - 1).astype(np.int64)


def _interpolated(op: OperatorCall, sizes: list[int], mode: str, place: str) -> Any:
    x = op.input()
    spatial = x.rank - 2
    same = tuple(sizes[:2]) == x.shape[:2]
    corners = place == "align_corners"
    cubic = op.attribute("cubic_coeff_a", -0.75) == -0.75 and spatial == 2
    known = place in ("align_corners", "half_pixel") or (
        place == "pytorch_half_pixel" and min(sizes[2:], default=1) > 1
    )
    unlike = op.attribute("exclude_outside", 0) or op.attribute("antialias", 0)
    names = {"linear": _LINEAR.get(spatial), "cubic": "bicubic" if cubic else None}
    name = names.get(mode)
    if name is None or not same or not known or unlike:
        raise op.refusal(f"in mode {mode!r} with coordinate_transformation_mode {place!r}")
    return op.call(
        F.interpolate,
        x,
        size=tuple(sizes[2:]),
        mode=name,
        align_corners=corners,
    )


TABLE: dict[str, Handler] = {"Resize": _resize, "Upsample": _upsample}

"""Image files as items of a model with one input: scaled to its size, in its layout and type."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from raybench.models.model import TensorSpec

IMAGES = (".png", ".jpg", ".jpeg")
_MODES = {3: "RGB", 1: "L"}
"""Pillow's name of the colours of so many channels."""


@dataclass(frozen=True)
class ImageLayout:
    """How an input takes an image.

    Attributes:
        height: rows of pixels.
        width: columns of pixels.
        channels: 3 for red, green and blue, 1 for grey.
        channels_first: whether an item is (channels, height, width), else (height, width, channels).
        dtype: "uint8" takes 0 to 255, a float 0 to 1.
    """

    height: int
    width: int
    channels: int
    channels_first: bool
    dtype: str

    @classmethod
    def of(cls, spec: TensorSpec, item: tuple[int, ...]) -> ImageLayout:
        """Return how an input takes images.

        Args:
            spec: the input.
            item: shape of one item.

        Raises:
            ModelError: the input is not made for images.
        """
        kind = np.dtype(spec.dtype)
        if kind.kind != "f" and kind != np.uint8:
            raise ModelError(
                f"Input {spec.name!r} is {spec.dtype}, and images become uint8 or floats. "
                "Give its items as .npy files."
            )
        for channels in _MODES if len(item) == 3 else ():
            if item[0] == channels:
                return cls(item[1], item[2], channels, True, spec.dtype)
            if item[2] == channels:
                return cls(item[0], item[1], channels, False, spec.dtype)
        shape = "x".join(map(str, item))
        raise ModelError(
            f"Input {spec.name!r} takes items of shape {shape or 'one number'}, and images need height, width and "
            "1 or 3 channels, first or last. Give its items as .npy files."
        )

    def read(self, path: Path) -> np.ndarray[Any, Any]:
        """Return an image as one item.

        Raises:
            ModelError: the file is no image that can be read.
        """
        from PIL import Image

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow, on odd but readable files
                with Image.open(path) as image:
                    if image.mode[0] in "IF":
                        raise ValueError(f"its pixels are {image.mode}, not of 8 bits")
                    colours = image.convert(_MODES[self.channels])
            scaled = colours.resize((self.width, self.height), Image.Resampling.BILINEAR)
        except Exception as error:  # whatever a damaged file leads Pillow to
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(
                f"{str(path)!r} cannot be read as an image: {reason}. Replace or remove it."
            ) from error
        pixels = np.asarray(scaled).reshape(self.height, self.width, self.channels)
        if self.channels_first:
            pixels = pixels.transpose(2, 0, 1)
        if self.dtype == "uint8":
            return pixels
        return (pixels / np.float32(255)).astype(self.dtype)

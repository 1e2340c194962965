"""Image files as items of a model with one input: scaled to its size, in its layout and type.

Pillow does all of it, but for the decoding of JPEGs in a pipeline, for which there are faster libraries.
"""

from __future__ import annotations

import functools
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from raybench.models.model import TensorSpec

Array = np.ndarray[Any, Any]

IMAGES = (".png", ".jpg", ".jpeg")
_MODES = {3: "RGB", 1: "L"}
"""Pillow's name of the colours of so many channels."""
_IN_PLACE = {4: "RGBX", 1: "L"}
"""The same for pixels that Pillow reads where they are, of so many bytes each."""


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

    def read(self, path: Path) -> Array:
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
            pixels = self._scaled(colours)
        except Exception as error:  # whatever a damaged file leads Pillow to
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(
                f"{str(path)!r} cannot be read as an image: {reason}. Replace or remove it."
            ) from error
        shape = (self.height, self.width, self.channels)
        item = np.empty(shape[2:] + shape[:2] if self.channels_first else shape, self.dtype)
        self.write(pixels, item)
        return item

    def decode(self, jpeg: bytes) -> Array:
        """Return the pixels of a JPEG, scaled: uint8, shape (height, width, channels)."""
        from PIL import Image

        with Image.open(io.BytesIO(jpeg)) as image:
            return self._scaled(image.convert(_MODES[self.channels]))

    def scale(self, pixels: Array) -> Array:
        """Scale an image.

        Args:
            pixels: uint8, shape (rows, columns, 4), of which the last byte of each is not read, or
                (rows, columns, 1); contiguous.

        Returns:
            uint8, shape (height, width, 4 or 1).
        """
        from PIL import Image

        mode = _IN_PLACE[pixels.shape[2]]
        size = (pixels.shape[1], pixels.shape[0])
        return self._scaled(Image.frombuffer(mode, size, pixels, "raw", mode, 0, 1))

    def _scaled(self, image: Any) -> Array:
        from PIL import Image

        scaled = image.resize((self.width, self.height), Image.Resampling.BILINEAR)
        return np.asarray(scaled).reshape(self.height, self.width, -1)

    def write(self, pixels: Array, item: Array) -> None:
        """Write pixels of this size into an item, in its layout and type.

        Args:
            pixels: uint8, shape (height, width, channels or more).
            item: where to, in the shape and type of an item.
        """
        colours = pixels[:, :, : self.channels]
        if self.channels_first:
            colours = colours.transpose(2, 0, 1)
        if item.dtype == np.uint8:
            item[...] = colours
        elif item.dtype == np.float32:
            np.divide(colours, np.float32(255), out=item)
        else:  # for half precision a third of the time of computing it
            np.take(_values(item.dtype.str), colours, out=item, mode="clip")


@functools.cache
def _values(dtype: str) -> Array:
    """Return what an input of this type takes for each value of a pixel."""
    values: Array = (np.arange(256) / np.float32(255)).astype(dtype)
    return values


def encode_jpeg(pixels: Array, quality: int) -> bytes:
    """Return an image as a JPEG whose colours have half of its resolution (4:2:0).

    Args:
        pixels: uint8, shape (rows, columns, 3) or (rows, columns).
        quality: from 1 to 95.
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return file.getvalue()


def pillow_version() -> str:
    """Return the version of Pillow."""
    import PIL

    return str(PIL.__version__)

"""JPEGs in memory, and the libraries that decode them: simplejpeg, else Pillow.

Both use libjpeg-turbo and let other threads of the process run meanwhile. An image is decoded at its
full size, scaled to the input's by Pillow (bilinear, over all pixels that fall into one) and written
into the batch.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from typing_extensions import override

from raybench.errors import ModelError
from raybench.experiment import NO_PIPELINE
from raybench.models.items.images import ImageLayout, encode_jpeg, pillow_version
from raybench.models.items.input_files import files_of
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from raybench.experiment import Point
    from raybench.models.model import TensorSpec

Array = np.ndarray[Any, Any]

_START_OF_IMAGE = b"\xff\xd8\xff"
"""Begins every JPEG: the marker SOI, and that of the next marker (ITU-T T.81, B.1.1.3)."""
LOOKED_INTO = 1000
"""Files of a folder whose content is looked at before anything runs."""
JPEGS = (".jpg", ".jpeg")
HELD_BYTES = 1 << 29
"""Most bytes of a user's files that a worker keeps in memory."""


def image_layout(model: str, inputs: Sequence[TensorSpec]) -> ImageLayout:
    """Return how a model takes images.

    Args:
        model: its name, for messages.
        inputs: of the model.

    Raises:
        ModelError: it takes something else.
    """
    if len(inputs) != 1:
        raise ModelError(
            f"pipeline=jpeg feeds models whose one input is images, and {model!r} has {len(inputs)} inputs. "
            "Use another model, or pipeline=none."
        )
    (spec,) = inputs
    try:
        if spec.batch_axis != 0:
            raise ModelError("its batch is not its first dimension")
        return ImageLayout.of(spec, spec.with_batch(1)[1:])
    except ModelError as error:
        shape = "x".join(map(str, spec.shape))
        raise ModelError(
            f"pipeline=jpeg feeds models whose one input is images, and {spec.name!r} of {model!r} takes "
            f"{spec.dtype} of shape {shape}. Use another model, or pipeline=none."
        ) from error


def refuse_unfit_for_pipelines(
    points: Iterable[Point], inputs: Mapping[str, Sequence[TensorSpec]]
) -> None:
    """Raise ModelError for a point whose pipeline cannot feed its model, or decode the user's files.

    Args:
        points: of the plan.
        inputs: of each model.
    """
    fed = {p.model: p.model_settings.inputs for p in points if p.pipeline != NO_PIPELINE}
    for model, path in fed.items():
        image_layout(model, inputs[model])
        if path:
            refuse_other_files(path, files_of(path))


# ---------------------------------------------------------------- decoders


class JpegDecoder(Protocol):
    """Decodes JPEGs into items; threads may share one."""

    @property
    def library(self) -> str:
        """Return the name and version of what decodes."""

    def decode(self, jpeg: bytes, item: Array) -> None:
        """Decode and scale an image, and write it into an item.

        Raises:
            Exception: whatever the library raises of an image that it cannot read.
        """


@dataclass(frozen=True)
class SimpleJpegDecoder(JpegDecoder):
    """Decodes with simplejpeg: a call from bytes in memory to pixels that Pillow scales in place."""

    layout: ImageLayout

    @property
    @override
    def library(self) -> str:
        """Return the name and version of simplejpeg."""
        import simplejpeg

        return f"simplejpeg {simplejpeg.__version__}"

    @override
    def decode(self, jpeg: bytes, item: Array) -> None:
        """Decode with four bytes a pixel, which Pillow reads where they are."""
        from simplejpeg import decode_jpeg

        pixels = decode_jpeg(jpeg, "RGBX" if self.layout.channels == 3 else "GRAY")
        self.layout.write(self.layout.scale(pixels), item)


@dataclass(frozen=True)
class PillowDecoder(JpegDecoder):
    """Decodes with Pillow alone."""

    layout: ImageLayout

    @property
    @override
    def library(self) -> str:
        """Return the name and version of Pillow."""
        return f"Pillow {pillow_version()}"

    @override
    def decode(self, jpeg: bytes, item: Array) -> None:
        """Decode from a file in memory."""
        self.layout.write(self.layout.decode(jpeg), item)


def best_decoder(layout: ImageLayout) -> JpegDecoder:
    """Return a decoder with simplejpeg where it is installed, else with Pillow."""
    if find_spec("simplejpeg") is None:
        return PillowDecoder(layout)
    return SimpleJpegDecoder(layout)


# ---------------------------------------------------------------- images


@dataclass(frozen=True)
class Jpegs:
    """JPEGs in memory, and what a row says of them.

    Attributes:
        images: their bytes.
        names: of each, for messages.
        note: where they come from, in a sentence.
    """

    images: Sequence[bytes]
    names: Sequence[str]
    note: str

    @property
    def mean_bytes(self) -> float:
        """Return the mean size of an image."""
        return sum(map(len, self.images)) / len(self.images)


SYNTHETIC_IMAGES = 32
WIDTH, HEIGHT = 500, 375
QUALITY = 90
"""Size of most images of ImageNet, whose 1.28 million of training have 110 kB on average."""
CONTRAST = 52.0
"""Standard deviation of brightness, of 255; with the exponent below it makes JPEGs of about 110 kB."""
SLOPE = 1.1
"""Exponent with which the amplitudes of photographs fall with the spatial frequency."""
COLOUR = 0.35
"""Standard deviation of a colour's difference over that of brightness."""


@functools.lru_cache(maxsize=4)
def synthetic_jpegs(seed: int, channels: int, count: int = SYNTHETIC_IMAGES) -> Jpegs:
    """Return smooth noise with the spectrum of photographs, as JPEGs.

    Args:
        seed: the same seed gives the same pixels.
        channels: 3 for colours, 1 for grey.
        count: number of images.
    """
    images = [encode_jpeg(_noise([seed, number], channels), QUALITY) for number in range(count)]
    made = Jpegs(images, [f"synthetic image {number}" for number in range(count)], "")
    note = (
        f"The pipeline decodes {count} synthetic JPEGs of {WIDTH}x{HEIGHT} pixels and quality {QUALITY}, "
        f"{made.mean_bytes / 1e3:.0f} kB each on average; those of ImageNet have about 110 kB."
    )
    return Jpegs(made.images, made.names, note)


def _noise(seed: Sequence[int], channels: int) -> Array:
    """Return an image, uint8, shape (rows, columns, 3), or (rows, columns) for grey."""
    rng = np.random.Generator(np.random.SFC64(seed))
    brightness = 127.5 + CONTRAST * _smooth(rng)
    if channels == 1:
        return np.clip(brightness, 0, 255).astype(np.uint8)
    first, second = (COLOUR * CONTRAST * _smooth(rng) for _ in range(2))
    colours = (brightness + first, brightness - (first + second) / 2, brightness + second)
    return np.clip(np.stack(colours, axis=-1), 0, 255).astype(np.uint8)


def _smooth(rng: np.random.Generator) -> Array:
    """Return noise of mean 0 and deviation 1 whose amplitudes fall with the frequency."""
    spectrum = np.fft.rfft2(rng.standard_normal((HEIGHT, WIDTH)))
    rows, columns = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    values = np.fft.irfft2(spectrum / frequency**SLOPE, s=(HEIGHT, WIDTH))
    scaled: Array = values / values.std()
    return scaled


def user_jpegs(path: str, seed: int) -> Jpegs:
    """Return the images of a user's folder, in an order that depends on the seed.

    Args:
        path: the setting `model.inputs`.
        seed: of the order.

    Raises:
        ModelError: a file is no JPEG, or cannot be read.
    """
    files = files_of(path)
    refuse_other_files(path, files)
    order = np.random.Generator(np.random.SFC64(seed)).permutation(len(files))
    images: list[bytes] = []
    names: list[str] = []
    held = 0
    for place in order:
        if images and held > HELD_BYTES:
            break
        images.append(_bytes_of(files[place]))
        names.append(str(files[place]))
        held += len(images[-1])
    some = (
        ""
        if len(images) == len(files)
        else f" of {len(files):,}, as many as {held / 2**20:.0f} MiB hold"
    )
    note = (
        f"The pipeline decodes {counted(len(images), 'file')}{some}, {held / len(images) / 1e3:.0f} kB each on "
        "average, read into memory before the stream."
    )
    return Jpegs(images, names, note)


def refuse_other_files(path: str, files: Sequence[Path]) -> None:
    """Raise ModelError for a file that is no JPEG by its name, or by its first bytes.

    Into so many of them only: a folder may hold millions, and each that is decoded is looked into where it is read.
    """
    other = next((file for file in files if file.suffix.lower() not in JPEGS), None)
    if other is not None:
        raise ModelError(
            f"pipeline=jpeg decodes JPEGs, and model.inputs={path!r} holds {other.name!r}. Give a folder "
            "of .jpg files, or leave model.inputs out for synthetic images."
        )
    for file in files[:LOOKED_INTO]:
        with contextlib.suppress(OSError), file.open("rb") as opened:
            _refuse_other_content(file, opened.read(len(_START_OF_IMAGE)))


def _refuse_other_content(file: Path, begins: bytes) -> None:
    """Raise ModelError for a file that does not begin as a JPEG; an empty one is refused where it is decoded."""
    if begins and not begins.startswith(_START_OF_IMAGE):
        raise ModelError(
            f"pipeline=jpeg decodes JPEGs, and {str(file)!r} is none, whatever its name says: its first bytes "
            "are those of something else. Convert or remove it."
        )


def _bytes_of(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{str(file)!r} of model.inputs cannot be read: {error.strerror}. Allow it, or remove the file."
        ) from error
    _refuse_other_content(file, content)
    return content

"""JPEGs of a pipeline: synthetic and the user's, and the libraries that decode them."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from raybench.errors import ModelError
from raybench.models.items import jpegs as module
from raybench.models.items.images import ImageLayout, encode_jpeg
from raybench.models.items.jpegs import (
    PillowDecoder,
    SimpleJpegDecoder,
    best_decoder,
    image_layout,
    synthetic_jpegs,
    user_jpegs,
)
from raybench.models.model import TensorSpec

LAYOUT = ImageLayout(24, 32, 3, True, "float32")
GREY = ImageLayout(28, 28, 1, True, "float32")


@pytest.fixture
def folder(tmp_path):
    """Three JPEGs, one of them grey."""
    rng = np.random.default_rng(0)
    for number in range(3):
        shape = (40, 60) if number == 2 else (40 + number, 60, 3)
        pixels = rng.integers(0, 256, shape, np.uint8)
        (tmp_path / f"{number}.jpg").write_bytes(encode_jpeg(pixels, 90))
    return tmp_path


def decoders(layout):
    yield PillowDecoder(layout)
    if find_spec("simplejpeg"):
        yield SimpleJpegDecoder(layout)


@pytest.mark.parametrize("channels", [3, 1])
def test_synthetic_images_are_as_large_as_photographs_of_their_size(channels):
    made = synthetic_jpegs(0, channels, 3)
    assert 85e3 < made.mean_bytes < 130e3
    assert f"{made.mean_bytes / 1e3:.0f} kB each" in made.note
    assert "500x375 pixels and quality 90" in made.note


def test_a_seed_gives_the_same_images_and_another_others():
    synthetic_jpegs.cache_clear()
    first = synthetic_jpegs(1, 3, 2).images
    synthetic_jpegs.cache_clear()
    assert synthetic_jpegs(1, 3, 2).images == first
    assert synthetic_jpegs(2, 3, 2).images != first
    assert first[0] != first[1]


@pytest.mark.parametrize(
    "layout",
    [
        LAYOUT,
        ImageLayout(24, 32, 3, False, "float16"),
        ImageLayout(24, 32, 3, True, "float16"),
        ImageLayout(24, 32, 3, False, "uint8"),
        ImageLayout(50, 70, 3, True, "float64"),
        GREY,
    ],
)
def test_an_image_becomes_the_item_that_it_is_as_a_real_input(folder, layout):
    for path in sorted(folder.iterdir()):
        wanted = layout.read(path)
        for decoder in decoders(layout):
            item = np.zeros_like(wanted)
            decoder.decode(path.read_bytes(), item)
            # the brightness that a JPEG stores is not rounded as that of its colours is
            rounded = 2 / 255 if layout is GREY and isinstance(decoder, SimpleJpegDecoder) else 0
            np.testing.assert_allclose(item, wanted, rtol=0, atol=rounded, err_msg=decoder.library)


def test_the_faster_library_decodes_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert best_decoder(LAYOUT).library.startswith("Pillow 1")
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    assert isinstance(best_decoder(LAYOUT), SimpleJpegDecoder)


def test_importing_the_worker_does_not_import_the_libraries():
    code = "import sys, raybench.worker; sys.exit(bool({'PIL', 'simplejpeg'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_users_images_are_read_once_in_an_order_of_the_seed(folder, monkeypatch):
    jpegs = user_jpegs(str(folder), 0)
    assert sorted(jpegs.images) == sorted(path.read_bytes() for path in folder.iterdir())
    assert jpegs.note.startswith("The pipeline decodes 3 files, ")
    orders = {tuple(user_jpegs(str(folder), seed).names) for seed in range(20)}
    assert len(orders) > 1
    monkeypatch.setattr(module, "HELD_BYTES", 1)
    assert "1 file of 3" in user_jpegs(str(folder), 0).note


@pytest.mark.parametrize("looked_into", [1000, 0])
def test_files_that_are_no_jpegs_are_refused_by_content(looked_into, folder, monkeypatch):
    monkeypatch.setattr(module, "LOOKED_INTO", looked_into)
    Image.new("RGB", (4, 4)).save(folder / "y.jpg", "PNG")
    with pytest.raises(ModelError, match=r"y.jpg' is none, whatever its name says"):
        user_jpegs(str(folder), 0)


def test_files_that_are_no_jpegs_are_refused_by_name(folder):
    Image.new("RGB", (4, 4)).save(folder / "x.png")
    with pytest.raises(ModelError, match=r"pipeline=jpeg decodes JPEGs, and .* holds 'x.png'"):
        user_jpegs(str(folder), 0)


@pytest.mark.parametrize(
    ("specs", "why"),
    [
        ([TensorSpec("ids", "int64", ("N", 128))], "'ids' of 'm' takes int64 of shape Nx128"),
        ([TensorSpec("x", "float32", ("N", 80, 3000))], "takes float32 of shape Nx80x3000"),
        ([TensorSpec("x", "float32", (3, "N", 8))], "takes float32 of shape 3xNx8"),
        ([TensorSpec(n, "float32", ("N", 3, 8, 8)) for n in "ab"], "'m' has 2 inputs"),
        ([], "'m' has 0 inputs"),
    ],
)
def test_a_model_that_takes_no_images_is_refused_in_a_sentence(specs, why):
    with pytest.raises(ModelError, match=why) as raised:
        image_layout("m", specs)
    assert str(raised.value).endswith("Use another model, or pipeline=none.")

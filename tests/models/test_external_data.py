from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.tiny_graphs import tiny_conv
from onnx import external_data_helper

from raybench.errors import ModelError
from raybench.experiment import ModelSettings
from raybench.models.prepare import prepare
from raybench.models.source import check, identity

if TYPE_CHECKING:
    from raybench.models.model import Model


def split(folder: Path, location: str, file: str | None = None, elements: int = 5000) -> Path:
    """Write a convolution whose weights lie at `location`, in `file` where that differs."""
    model = tiny_conv()
    weights = np.linspace(-1, 1, elements * 27, dtype=np.float32).reshape(elements, 3, 3, 3)
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = elements * 36
    external_data_helper.set_external_data(tensor, location, length=weights.nbytes)
    tensor.ClearField("raw_data")
    target = folder / (file or location)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(weights.tobytes())
    path = folder / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check(str(path), ModelSettings())
    return str(caught.value)


def prepared(path: Path, folder: Path) -> Model:
    return prepare(str(path), ModelSettings(), "fp32", None, folder / "cache")


def outputs(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"data": np.ones((1, 3, 8, 8), np.float32)})[0]


@pytest.mark.parametrize(
    "location", ["model.onnx", "entry.json", "model.onnx.data", "weights_1.bin", "model.onnx/w", "a/b"]
)  # fmt: skip
def test_weights_may_have_any_name(tmp_path: Path, location: str) -> None:
    path = split(tmp_path, location)
    model = prepared(path, tmp_path)
    np.testing.assert_array_equal(outputs(model.path), outputs(path))
    assert prepared(path, tmp_path) == model  # from the cache
    assert prepare(str(path), ModelSettings(), "int8", "u8s8", tmp_path / "cache").path.is_file()


def test_the_layout_of_a_hub_cache_graph_and_weights_are_links(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    path = split(blobs, "graph.onnx_data")
    snapshot.mkdir(parents=True)
    for name in ("graph.onnx", "graph.onnx_data"):
        (blobs / name).rename(blobs / f"blob of {name}")
        (snapshot / name).symlink_to(Path("../../blobs") / f"blob of {name}")
    linked = snapshot / path.name
    assert identity(str(linked), ModelSettings()).startswith("sha256:")
    assert outputs(prepared(linked, tmp_path).path).shape == (1, 5000 * 36)


def test_small_weights_behind_a_link_are_loaded(tmp_path: Path) -> None:
    path = split(tmp_path, "w.bin", "elsewhere", elements=2)
    (tmp_path / "w.bin").symlink_to("elsewhere")
    assert len(onnx.load(prepared(path, tmp_path).path).graph.initializer[0].raw_data) == 2 * 27 * 4


@pytest.mark.parametrize("location", ["../w.bin", "a/../../w.bin", "/weights/w.bin"])
def test_weights_outside_the_folder_of_the_graph_are_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = split(folder, location, "../w.bin")
    assert "outside its own folder" in refusal(path)


def test_a_location_that_leaves_a_subfolder_again_is_inside(tmp_path: Path) -> None:
    path = split(tmp_path, "no_such_folder/../w.bin", "w.bin")
    assert outputs(prepared(path, tmp_path).path).shape == (1, 5000 * 36)


def test_weights_that_are_no_file_are_missing(tmp_path: Path) -> None:
    for location in ("", "w" * 300, "."):
        assert "which is missing" in refusal(split(tmp_path, location, "w.bin"))

import numpy as np
import onnx
import pytest
from tiny_graphs import tiny_conv

from raybench.cluster import file_transfer as parcels
from raybench.experiment import ModelSettings
from raybench.models.source import identity


@pytest.fixture
def model(tmp_path):
    """A graph whose weights lie in a file beside it."""
    path = tmp_path / "mine" / "tiny.onnx"
    path.parent.mkdir()
    onnx.save_model(
        tiny_conv(), path, save_as_external_data=True, location="tiny.weights", size_threshold=0
    )
    return path


def test_a_node_without_the_files_gets_the_same_model(model, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    wanted = identity(str(model), ModelSettings())
    parcel = parcels.pack(str(model))
    assert set(parcel.files) == {"tiny.onnx", "tiny.weights"}
    fetched = []
    for path in (model, model.with_name("tiny.weights")):
        path.unlink()
    for _ in range(2):
        path = parcels.here(
            str(model), ModelSettings(), wanted, lambda: fetched.append(1) or parcel
        )
        assert identity(path, ModelSettings()) == wanted
    assert len(fetched) == 1


def test_a_node_that_has_the_files_fetches_nothing_and_another_file_does_not_pass(
    model, tmp_path, monkeypatch
):
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    wanted, parcel = identity(str(model), ModelSettings()), parcels.pack(str(model))
    assert parcels.here(str(model), ModelSettings(), wanted, pytest.fail) == str(model)
    weights = model.with_name("tiny.weights")
    (np.fromfile(weights, np.uint8) ^ 1).tofile(weights)
    path = parcels.here(str(model), ModelSettings(), wanted, lambda: parcel)
    assert path != str(model)
    assert identity(path, ModelSettings()) == wanted


def test_models_of_the_zoo_do_not_travel():
    assert not parcels.travels("alexnet")
    assert parcels.travels("mine.onnx")


def test_what_was_built_is_laid_byte_by_byte_and_only_where_it_is_not(tmp_path, monkeypatch):
    def at(node):
        monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / node))

    at("builder")
    files = {"engine/k.plan": b"plan" * 1000, "engine/k.json": b"{}"}
    for name, data in files.items():
        path = tmp_path / "builder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    wanted, parcel = parcels.manifest(list(files)), parcels.pack_built(files)
    assert not parcels.lay(wanted, pytest.fail)
    at("other")
    assert parcels.lay(wanted, lambda: parcel)
    assert {name: (tmp_path / "other" / name).read_bytes() for name in files} == files
    (tmp_path / "other" / "engine/k.plan").write_bytes(b"damaged")
    assert parcels.lay(wanted, lambda: parcel)
    assert not parcels.lay(wanted, pytest.fail)
    assert sorted(path.name for path in (tmp_path / "other" / "engine").iterdir()) == [
        "k.json",
        "k.plan",
    ]

import numpy as np
import onnx
import pytest
from helpers.tiny_graphs import tiny_conv

from raybench.cluster import file_transfer
from raybench.experiment import ModelSettings
from raybench.models.input_files import files_digest
from raybench.models.source import identity


@pytest.fixture
def model(tmp_path):
    """A graph whose weights are in a file next to it."""
    path = tmp_path / "mine" / "tiny.onnx"
    path.parent.mkdir()
    onnx.save_model(
        tiny_conv(), path, save_as_external_data=True, location="tiny.weights", size_threshold=0
    )
    return path


def local_path(model, wanted, fetch):
    return file_transfer.local_model_path(str(model), ModelSettings(), wanted, fetch)


def test_a_node_without_the_files_gets_the_same_model(model, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    wanted = identity(str(model), ModelSettings())
    bundle = file_transfer.bundle_model(str(model))
    assert set(bundle.files) == {"tiny.onnx", "tiny.weights"}
    fetched = []
    for path in (model, model.with_name("tiny.weights")):
        path.unlink()
    for _ in range(2):
        path = local_path(model, wanted, lambda: fetched.append(1) or bundle)
        assert identity(path, ModelSettings()) == wanted
    assert len(fetched) == 1


def test_a_node_with_the_files_fetches_nothing_and_other_files_do_not_pass_for_them(
    model, tmp_path, monkeypatch
):
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    wanted = identity(str(model), ModelSettings())
    bundle = file_transfer.bundle_model(str(model))
    assert local_path(model, wanted, pytest.fail) == str(model)
    weights = model.with_name("tiny.weights")
    (np.fromfile(weights, np.uint8) ^ 1).tofile(weights)
    path = local_path(model, wanted, lambda: bundle)
    assert path != str(model)
    assert identity(path, ModelSettings()) == wanted


@pytest.mark.parametrize("name", ["items.npz", "folder"])
def test_a_node_without_the_inputs_gets_the_same_ones(name, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "mine" / name
    path.parent.mkdir()
    if name == "folder":
        path.mkdir()
        np.save(path / "data.npy", np.arange(6.0))
    else:
        np.savez(path, data=np.arange(6.0))
    wanted, bundle = files_digest(str(path)), file_transfer.bundle_inputs(str(path))
    assert file_transfer.local_inputs_path(str(path), wanted, pytest.fail) == str(path)
    path.rename(tmp_path / "gone")
    fetched = []
    for _ in range(2):
        here = file_transfer.local_inputs_path(
            str(path), wanted, lambda: fetched.append(1) or bundle
        )
        assert files_digest(here) == wanted
    assert len(fetched) == 1


def test_models_of_the_zoo_are_not_transferred():
    assert not file_transfer.needs_transfer("alexnet")
    assert file_transfer.needs_transfer("mine.onnx")


def test_built_files_are_copied_byte_by_byte_and_only_where_they_are_missing(tmp_path, monkeypatch):
    def use_cache_of(node):
        monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / node))

    use_cache_of("builder")
    files = {"engine/k.plan": b"plan" * 1000, "engine/k.json": b"{}"}
    for name, data in files.items():
        path = tmp_path / "builder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    manifest = file_transfer.manifest(list(files))
    bundle = file_transfer.bundle_cached(files)
    assert not file_transfer.store_in_cache(manifest, pytest.fail)
    use_cache_of("other")
    assert file_transfer.store_in_cache(manifest, lambda: bundle)
    assert {name: (tmp_path / "other" / name).read_bytes() for name in files} == files
    (tmp_path / "other" / "engine/k.plan").write_bytes(b"damaged")
    assert file_transfer.store_in_cache(manifest, lambda: bundle)
    assert not file_transfer.store_in_cache(manifest, pytest.fail)
    folder = tmp_path / "other" / "engine"
    assert sorted(path.name for path in folder.iterdir()) == ["k.json", "k.plan"]

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from helpers.tiny_graphs import tiny_conv

from raybench.errors import ConfigError
from raybench.experiment import ModelSettings
from raybench.models import cache as cache_module
from raybench.models.cache import Cache, cache_dir, key_of
from raybench.models.prepare import prepare


def write(text: str):
    def build(folder: Path) -> dict[str, str]:
        (folder / "file").write_text(text)
        return {"fact": text}

    return build


def never(_folder: Path) -> dict[str, str]:
    raise AssertionError("built again")


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    first = Cache(tmp_path).entry("key", write("a"))
    again = Cache(tmp_path).entry("key", never)
    assert again == first
    assert (again.folder / "file").read_text() == again.facts["fact"] == "a"


@pytest.mark.parametrize("damage", ["truncate", "change", "delete", "sidecar", "empty"])
def test_a_damaged_entry_is_built_anew(tmp_path: Path, damage: str) -> None:
    entry = Cache(tmp_path).entry("key", write("abcdef"))
    file, sidecar = entry.folder / "file", entry.folder / "entry.json"
    if damage == "truncate":
        os.truncate(file, 3)
    elif damage == "change":
        file.write_text("abcdeg")
    elif damage == "delete":
        file.unlink()
    elif damage == "sidecar":
        sidecar.write_text(sidecar.read_text()[:-20])
    else:
        sidecar.write_text("[]")
    assert Cache(tmp_path).entry("key", write("abcdef")).sha256 == entry.sha256
    assert file.read_text() == "abcdef"


def test_a_copied_entry_with_other_times_is_hashed_and_taken(tmp_path: Path) -> None:
    entry = Cache(tmp_path).entry("key", write("a"))
    os.utime(entry.folder / "file", (1, 1))
    Cache(tmp_path).entry("key", never)


def test_a_link_to_a_file_of_an_entry_in_hand_is_not_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Cache(tmp_path).entry("weights", write("a"))
    cache, hashed = Cache(tmp_path), []
    real = cache_module.sha256_of
    monkeypatch.setattr(
        cache_module, "sha256_of", lambda path: (hashed.append(path.name), real(path))[1]
    )

    def build(folder: Path) -> dict[str, str]:
        os.link(cache.entry("weights", never).folder / "file", folder / "linked")
        (folder / "graph").write_text("b")
        return {}

    entry = cache.entry("graph", build)
    assert hashed == ["graph"]
    assert {name: one.sha256 for name, one in entry.files.items()} == {
        name: real(entry.folder / name) for name in ("linked", "graph")
    }


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, str]:
        (folder / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        Cache(tmp_path).entry("key", fail)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []
    Cache(tmp_path).entry("key", write("a"))


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".key.abc.part").mkdir()
    Cache(tmp_path).entry("key", write("a"))
    assert not list(tmp_path.glob("*.part"))


def test_of_many_processes_one_builds(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from raybench.models.cache import Cache\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "def build(folder):\n"
        "    open(root / 'built', 'a').write('x')\n"
        "    (folder / 'file').write_text('a'); time.sleep(0.5)\n"
        "    return {}\n"
        "print(Cache(root / 'cache').entry('key', build).sha256)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    hashes = {process.communicate(timeout=600)[0] for process in running}
    assert len(hashes) == 1
    assert (tmp_path / "built").read_text() == "x"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="RAYBENCH_CACHE"):
        Cache(tmp_path / "file").entry("key", write("a"))


def test_the_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE", "/somewhere")
    assert cache_dir() == Path("/somewhere")
    monkeypatch.delenv("RAYBENCH_CACHE")
    assert cache_dir() == Path.home() / ".cache" / "raybench"


def test_keys_follow_content_not_order() -> None:
    assert key_of(a=1, b=(1, 2)) == key_of(b=[1, 2], a=1)
    assert key_of(a=1) != key_of(a=2)


def test_a_hit_loads_no_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare("googlenet", ModelSettings(), "fp32", None, tmp_path)
    monkeypatch.setattr(onnx, "load", never)
    assert prepare("googlenet", ModelSettings(), "fp32", None, tmp_path) == first


def test_a_changed_file_is_a_new_entry(tmp_path: Path) -> None:
    path, model = tmp_path / "x.onnx", tiny_conv()
    onnx.save_model(model, path)
    first = prepare(str(path), ModelSettings(), "fp32", None, tmp_path / "cache")
    model.graph.name = "other"
    onnx.save_model(model, path)
    assert prepare(str(path), ModelSettings(), "fp32", None, tmp_path / "cache").path != first.path


def test_the_sidecar_is_json(tmp_path: Path) -> None:
    model = prepare("googlenet", ModelSettings(), "fp32", None, tmp_path)
    entry = json.loads((model.path.parent / "entry.json").read_text())
    assert entry["facts"]["parameters"] == model.parameters
    assert entry["files"]["model.onnx"]["sha256"] == model.sha256


def test_an_entry_of_another_revision_is_built_anew_in_its_place(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    first = cache.entry("key", write("a"), "one")
    assert cache.entry("key", never, "one").facts == {"fact": "a"}
    second = cache.entry("key", write("b"), "two")
    assert (second.folder, second.facts) == (first.folder, {"fact": "b"})

"""Models of other packages, by a fake process in place of the one that imports them."""

from __future__ import annotations

import json
import logging
import re
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from helpers.tiny_graphs import tiny_bert, tiny_conv

from raybench.cluster import file_transfer
from raybench.errors import ModelError
from raybench.experiment import ModelSettings
from raybench.models.items.input_files import sized
from raybench.models.named import catalogue, child_process, exporter, exports, user_caches
from raybench.models.named.catalogue import NamedModel
from raybench.models.named.module import ExportStep
from raybench.models.prepare import prepare
from raybench.models.provenance import Provenance
from raybench.models.source import check, declared_inputs, identity, refuse_other

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAIN = ModelSettings()
IMAGES = {
    "inputs": [["data", "float32", ["N", 3, "height", "width"]]],
    "sizes": {"height": 8, "width": 8},
    "ranges": {},
    "places": [["timm/net.a1", "model.safetensors"], ["", "net-1234.pth"]],
}
WORDS = {
    "inputs": [["ids", "int64", ["N", "sequence"]], ["mask", "int64", ["N", "sequence"]]],
    "sizes": {"sequence": 16},
    "ranges": {"ids": [0, 49], "mask": [1, 1]},
    "places": [],
}


class FakePackages:
    """Stands for the process that imports packages: it knows timm:net, hf:words and owner/net on a hub."""

    def __init__(self, hub: Path) -> None:
        self.asked: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.hub = hub

    def __call__(self, task: str, request: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.asked.append(task)
        self.requests.append(request)
        return getattr(self, f"_{task}")(request)

    def _describe(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["name"] == "net":
            return IMAGES
        return (
            WORDS if request["name"] == "words" or request["folder"] else {"near": ["net", "net2"]}
        )

    def _fetch(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["name"] != "owner/net":
            return {"reason": "ConnectError: no route to host"}
        cached(self.hub, "owner/net", {"config.json": "{}"})
        return {}

    def _export(self, request: dict[str, Any]) -> dict[str, Any]:
        facts = request["provenance"]
        proto = tiny_conv() if request["library"] == "timm" else tiny_bert("N", 16)
        Provenance(**{**facts, "parameters": 1}).write(proto)
        onnx.save_model(proto, request["target"])
        return {}


def cached(hub: Path, repository: str, files: dict[str, str]) -> Path:
    """Put a repository into a cache of the hub."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True, exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text("c0ffee")
    for name, text in files.items():
        (snapshot / name).write_text(text)
    return snapshot


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePackages:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalogue, "PACKAGES", dict.fromkeys(catalogue.PACKAGES, ("numpy", "onnx")))
    fake = FakePackages(tmp_path / "hub")
    monkeypatch.setattr(exports, "ask", fake)
    return fake


@pytest.fixture
def prepared(packages: FakePackages, tmp_path: Path) -> Callable[..., Any]:
    return lambda name, settings=PLAIN, precision="fp32": prepare(
        name, settings, precision, None, tmp_path / "cache"
    )


def refusal(name: str, **settings: Any) -> str:
    with pytest.raises(ModelError) as caught:
        check(name, ModelSettings(**settings))
    return str(caught.value)


def test_a_model_is_described_and_exported_once(
    packages: FakePackages, prepared: Callable[..., Any]
) -> None:
    check("timm:net", PLAIN)
    model = prepared("timm:net")
    prepared("timm:net", precision="fp16")
    assert packages.asked == ["describe", "export"]
    assert model.name == "timm:net"
    assert [(spec.name, spec.shape) for spec in model.inputs] == [("data", ("N", 3, 8, 8))]


def test_random_weights_say_so_on_the_row_and_before_the_start(
    packages: FakePackages, prepared: Callable[..., Any]
) -> None:
    (note,) = prepared("timm:net", ModelSettings(seed=3)).source_notes
    assert note.startswith("Random weights (seed 3): timm:net is not trained here")
    assert note.endswith("hf download timm/net.a1")
    assert check("timm:net", ModelSettings(seed=3)).notes == (note,)


@pytest.mark.parametrize("place", ["hub", "torch"])
def test_weights_in_the_caches_of_the_user_are_used(
    packages: FakePackages, prepared: Callable[..., Any], tmp_path: Path, place: str
) -> None:
    without = identity("timm:net", PLAIN)
    if place == "hub":
        cached(packages.hub, "timm/net.a1", {"model.safetensors": "trained"})
    else:
        (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
        (tmp_path / "torch/hub/checkpoints/net-1234.pth").write_text("trained")
    (note,) = prepared("timm:net").source_notes
    assert note.startswith("Trained weights: ")
    assert packages.requests[-1]["weights"]
    assert identity("timm:net", PLAIN) not in (without, "")
    assert identity("timm:net", ModelSettings(seed=1)) == identity("timm:net", PLAIN)


def test_the_identity_covers_packages_seed_shapes_and_weights(
    packages: FakePackages, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = identity("timm:net", PLAIN)
    assert plain.startswith(f"timm:net@numpy={catalogue.metadata.version('numpy')},onnx=")
    others = [
        identity("timm:net", ModelSettings(seed=1)),
        identity("timm:net", ModelSettings(shapes={"height": 16})),
    ]
    cached(packages.hub, "timm/net.a1", {"model.safetensors": "one"})
    others.append(identity("timm:net", PLAIN))
    cached(packages.hub, "timm/net.a1", {"model.safetensors": "another"})
    others.append(identity("timm:net", PLAIN))
    monkeypatch.setattr(catalogue.metadata, "version", lambda name: "99")
    others.append(identity("timm:net", PLAIN))
    assert len({plain, *others}) == 6


def test_token_ids_have_the_range_of_the_vocabulary_and_masks_hide_nothing(
    packages: FakePackages, prepared: Callable[..., Any]
) -> None:
    assert prepared("hf:words").ranges == {"ids": (0, 49), "mask": (1, 1)}
    padded = ModelSettings(ranges={"mask": [0, 1]})
    assert prepared("hf:words", padded).ranges["mask"] == (0, 1)


def test_sizes_are_those_of_the_user_or_the_documented_ones(packages: FakePackages) -> None:
    check("hf:words", ModelSettings(shapes={"sequence": 32}))
    assert packages.requests[-1]["inputs"][0] == ["ids", "int64", ("N", 32)]
    shapes = {"ids": ["N", 7], "mask": ["N", 7]}
    check("hf:words", ModelSettings(shapes=shapes))
    assert packages.requests[-1]["inputs"][0] == ["ids", "int64", ("N", 7)]
    assert "Did you mean 'sequence'?" in refusal("hf:words", shapes={"sequences": 3})
    assert [each.dims for each in declared_inputs("hf:words")] == [("N", "sequence")] * 2


def test_real_items_give_the_length(packages: FakePackages, tmp_path: Path) -> None:
    ids = np.ones((2, 5), np.int64)
    np.savez(tmp_path / "items.npz", ids=ids, mask=ids)
    settings = sized("hf:words", ModelSettings(inputs=str(tmp_path / "items.npz")))
    assert settings.shapes == {"sequence": 5}
    check("hf:words", settings)
    assert packages.requests[-1]["inputs"][0] == ["ids", "int64", ("N", 5)]


def test_an_unknown_name_is_refused_with_the_nearest(packages: FakePackages) -> None:
    assert refusal("timm:nett") == "'nett' is no model of timm. The nearest names are net, net2."
    assert "no route to host" in refusal("hf:nett")
    for name in ("", "/", "a/b/c", "bert@", "./empty"):
        before = packages.asked.count("fetch")
        assert "the hub gave none" not in refusal(f"hf:{name}")
        assert packages.asked.count("fetch") == before
    assert "timm:NAME, torchvision:NAME, hf:NAME" in refusal("nett")


def test_a_configuration_is_fetched_from_the_hub_only_where_the_user_allows_it(
    packages: FakePackages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "offline mode" in refusal("hf:owner/net")
    assert "fetch" not in packages.asked
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert "hf download owner/net" in check("hf:owner/net", PLAIN).notes[0]
    assert packages.asked.count("fetch") == 1


def test_a_folder_in_the_format_of_the_hub_is_a_model(
    packages: FakePackages, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("trained")
    assert check(f"hf:{folder}", PLAIN).notes[0].startswith("Trained weights: model.safetensors")
    assert str(folder) not in identity(f"hf:{folder}", PLAIN)


def test_weights_in_parts_count_only_where_all_are_there(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    (tmp_path / "model-00001-of-00002.safetensors").write_text("")
    assert user_caches.weights_in(tmp_path) == ()
    (tmp_path / "model-00002-of-00002.safetensors").write_text("")
    assert len(user_caches.weights_in(tmp_path)) == 3


def test_without_the_extra_a_name_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalogue, "PACKAGES", {"timm": ("no_such_package", "numpy")})
    text = refusal("timm:net")
    assert "not installed: no_such_package. Install" in text
    assert "raybench[torch]" in text


def test_a_worker_refuses_a_model_that_is_not_the_planned_one(packages: FakePackages) -> None:
    planned = identity("timm:net", PLAIN)
    refuse_other("timm:net", PLAIN, planned)
    refuse_other("lenet", PLAIN, "anything")
    with pytest.raises(ModelError, match="the run was planned with"):
        refuse_other("timm:net", ModelSettings(seed=1), planned)


def test_other_nodes_get_the_file_and_need_no_packages(
    packages: FakePackages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    planned = identity("timm:net", PLAIN)
    graph = file_transfer.file_to_send("timm:net", PLAIN)
    assert graph is not None
    bundle = file_transfer.bundle_model(str(graph))

    def local() -> str:
        return file_transfer.local_model_path("timm:net", PLAIN, planned, lambda: bundle)

    assert local() == "timm:net"
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "of another node"))
    monkeypatch.setattr(catalogue, "PACKAGES", {"timm": ("no_such_package",)})
    received = prepare(local(), PLAIN, "fp32", None, tmp_path / "other")
    assert received.source_notes[0].startswith("Random weights (seed 0): timm:net")


def test_a_name_is_a_model_of_a_package_by_its_prefix() -> None:
    assert NamedModel.parse("hf:owner/net.onnx") == NamedModel("hf", "owner/net.onnx")
    assert NamedModel.parse("resnet50") is None
    assert NamedModel.parse("./timm:net") is None


def test_the_process_reports_what_failed_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    request = {"model": "x:y", "library": "x", "name": "y", "folder": None}
    with pytest.raises(ModelError) as caught:
        child_process.ask("describe", request)
    assert "reading its configuration failed (KeyError: 'x')" in str(caught.value)
    monkeypatch.setattr(child_process, "_MODULE", "raybench.no_such_module")
    with pytest.raises(ModelError, match=r"the process ended with status 1 .describe.: .*no_such"):
        child_process.ask("describe", request)


def test_a_failure_with_inputs_of_a_size_says_that_another_size_may_do() -> None:
    step = ExportStep("running it once with ids of 2x513", depends_on_sizes=True)
    said = exporter._failure("hf:words", step, IndexError("index out of range"))
    assert "running it once with ids of 2x513 failed (IndexError: index out of range). " in said
    assert "Give it another size (model.shapes), try another version" in said
    assert "Try another version" in exporter._failure(
        "hf:words", ExportStep("building"), ValueError()
    )


def test_an_export_that_takes_long_says_for_how_long(
    packages: FakePackages, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, messages = threading.Event(), list[str]()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())
            if len(messages) == 3:
                said.set()

    def ask(task: str, request: dict[str, Any]) -> dict[str, Any]:
        assert task == "describe" or said.wait(60)
        return packages(task, request)

    monkeypatch.setattr(exports, "_SAYS_EVERY_S", 0.01)
    monkeypatch.setattr(exports, "ask", ask)
    exports.logger.addHandler(heard := Heard())
    try:
        exports.exported_file(NamedModel("timm", "net"), PLAIN)
    finally:
        exports.logger.removeHandler(heard)
    assert messages[0] == "Exporting timm:net to ONNX, once for this machine."
    assert all(
        re.fullmatch(r"Exporting timm:net to ONNX for \d+ s\.", each) for each in messages[1:3]
    )


def test_the_process_has_a_limit_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    request = {"model": "hf:owner/net", "library": "hf", "name": "owner/net", "folder": None}
    with pytest.raises(ModelError, match=r"no answer within 0 s .fetch.\. Check the network"):
        child_process.ask("fetch", request, limit_s=0.0, online=True)


def test_provenance_survives_the_file(tmp_path: Path) -> None:
    noted = Provenance("timm:net", {"timm": "1"}, "seed=0", 7, {"ids": (0, 9)}, ("A note.",))
    proto = tiny_conv()
    assert Provenance.read(proto) is None
    noted.write(proto)
    assert Provenance.read(proto) == noted
    assert json.loads(proto.metadata_props[0].value)["parameters"] == 7

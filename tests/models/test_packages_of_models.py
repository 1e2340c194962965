"""Models of timm, torchvision and transformers as these packages ship them, without a network."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from raybench.errors import ModelError
from raybench.experiment import ModelSettings
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare
from raybench.models.source import check

if TYPE_CHECKING:
    from pathlib import Path

    from raybench.models.model import Model

PLAIN = ModelSettings()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(cache / "no hub"))
    monkeypatch.setenv("TORCH_HOME", str(cache / "no torch"))
    monkeypatch.setenv("RAYBENCH_CACHE", str(cache))


def needs(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: install raybench[torch]")


def small(folder: Path, **config: object) -> str:
    """Return the name of a model of transformers that is a folder with a configuration."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return f"hf:{folder}"


def tiny_bert(folder: Path) -> str:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return small(folder, model_type="bert", vocab_size=99, intermediate_size=64, **sizes)


def outputs(model: Model, batch: int = 3) -> list[np.ndarray]:
    """Return what a graph computes from a batch as it is measured."""
    fed = BatchPool(model.inputs, batch, (0, 0), model.ranges, min_bytes=1).batch(0)
    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    return list(session.run(None, fed))


def test_a_model_of_timm_is_random_and_normal_without_its_weights(cache: Path) -> None:
    needs("torch", "timm")
    model = prepare("timm:test_resnet", PLAIN, "fp32", None, cache)
    assert model.inputs[0].shape == ("N", 3, 160, 160)
    assert model.source_notes[0].startswith("Random weights (seed 0): timm:test_resnet")
    (logits,) = outputs(model)
    assert logits.shape == (3, 1000)
    assert 0.01 < logits.std() < 100  # neither dead by scales of 0 nor grown from block to block
    prepare("timm:test_resnet", PLAIN, "fp16", None, cache)


def test_the_size_of_images_can_be_chosen(cache: Path) -> None:
    needs("torch", "torchvision")
    shapes = {"height": 64, "width": 96}
    name = "torchvision:squeezenet1_1"
    model = prepare(name, ModelSettings(shapes=shapes), "fp32", None, cache)
    assert model.inputs[0].shape == ("N", 3, 64, 96)
    assert model.parameters == 1_235_496  # as torchvision publishes them
    assert outputs(model)[0].shape == (3, 1000)


def test_text_has_ids_of_the_vocabulary_a_mask_without_padding_and_types(cache: Path) -> None:
    needs("torch", "transformers")
    name = tiny_bert(cache / "tiny bert")
    model = prepare(name, ModelSettings(shapes={"sequence": 8}), "fp32", None, cache)
    assert {spec.name: spec.shape for spec in model.inputs} == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), ("N", 8)
    )
    assert model.ranges == {
        "input_ids": (0, 98), "attention_mask": (1, 1), "token_type_ids": (0, 1)
    }  # fmt: skip
    assert [each.shape for each in outputs(model)] == [(3, 8, 32), (3, 32)]


def test_speech_has_features_and_tokens_of_the_decoder(cache: Path) -> None:
    needs("torch", "transformers")
    layers = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 32, "vocab_size": 99}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_source_positions": 50}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    name = small(cache / "tiny whisper", model_type="whisper", **layers, **heads, **ends)
    model = prepare(name, PLAIN, "fp32", None, cache)
    assert {spec.name: spec.shape for spec in model.inputs} == {
        "input_features": ("N", 80, 100),
        "decoder_input_ids": ("N", 16),
        "decoder_attention_mask": ("N", 16),
    }
    assert [each.shape for each in outputs(model)] == [(3, 16, 32)]


ZERO = "[weight.data.zero_() for weight in model.parameters()]; "


def save_weights(program: str, target: Path) -> None:
    """Write weights of 0 to a path that a program gets as `target`."""
    begin = "import sys; target = sys.argv[1]; "
    subprocess.run([sys.executable, "-c", begin + program, str(target)], check=True)


def test_weights_beside_the_configuration_are_loaded_and_named(cache: Path) -> None:
    needs("torch", "transformers", "safetensors")
    name = tiny_bert(cache / "trained bert")
    before = prepare(name, PLAIN, "fp32", None, cache)
    save_weights(
        "from transformers import AutoConfig, AutoModel; "
        "model = AutoModel.from_config(AutoConfig.from_pretrained(target)); "
        f"{ZERO}model.save_pretrained(target)",
        cache / "trained bert",
    )
    after = prepare(name, PLAIN, "fp32", None, cache)
    assert before.source_notes[0].endswith("put model.safetensors beside its config.json.")
    assert after.source_notes[0].startswith("Trained weights: model.safetensors of trained bert")
    assert after.sha256 != before.sha256
    assert len(after.source_notes) == 1
    assert np.allclose(outputs(after)[1], 0.0)
    config = json.loads((cache / "trained bert/config.json").read_text())
    config["num_hidden_layers"] = 2
    (cache / "trained bert/config.json").write_text(json.dumps(config))
    deeper = prepare(name, PLAIN, "fp32", None, cache)
    assert "as the files lack them: encoder.layer.1." in deeper.source_notes[1]


def test_weights_of_timm_in_the_cache_of_the_hub_are_loaded(cache: Path) -> None:
    needs("torch", "timm", "safetensors")
    folder = cache / "no hub/hub/models--timm--test_vit.r160_in1k"
    (folder / "snapshots/c0ffee").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("c0ffee")
    save_weights(
        "import timm; from safetensors.torch import save_file; "
        f"model = timm.create_model('test_vit'); {ZERO}save_file(model.state_dict(), target)",
        folder / "snapshots/c0ffee/model.safetensors",
    )
    model = prepare("timm:test_vit", PLAIN, "fp32", None, cache)
    assert model.source_notes[0].startswith("Trained weights: model.safetensors of timm/test_vit")
    assert np.allclose(outputs(model)[0], 0.0)


def test_weights_of_torchvision_in_the_cache_of_torch_are_loaded(cache: Path) -> None:
    needs("torch", "torchvision")
    folder = cache / "no torch/hub/checkpoints"
    folder.mkdir(parents=True)
    save_weights(
        "import torch; from torchvision import models; model = models.squeezenet1_0(); "
        f"{ZERO}torch.save(model.state_dict(), target)",
        folder / "squeezenet1_0-b66bff10.pth",
    )
    shapes = {"height": 64, "width": 64}
    name = "torchvision:squeezenet1_0"
    model = prepare(name, ModelSettings(shapes=shapes), "fp32", None, cache)
    assert model.source_notes[0].startswith(
        "Trained weights: squeezenet1_0-b66bff10.pth of torch.hub"
    )
    assert np.allclose(outputs(model)[0], 0.0)


@pytest.mark.parametrize(
    ("name", "packages", "sentence"),
    [
        ("timm:resnet81", ("torch", "timm"), "The nearest names are resnet18,"),
        ("timm:resnet18.a1_in2k", ("torch", "timm"), "The nearest names are resnet18.a1_in1k,"),
        ("hf:brt", ("torch", "transformers"), "The nearest names are bert,"),
        ("hf:nobody/brt", ("torch", "transformers"), "offline mode (HF_HUB_OFFLINE)"),
        ("torchvision:resnet81", ("torch", "torchvision"), "The nearest names are resnet18,"),
        ("hf:decision_transformer", ("torch", "transformers"), "its input 'states' has a shape"),
    ],
)
def test_a_model_that_cannot_be_had_is_refused_in_a_sentence(
    name: str, packages: tuple[str, ...], sentence: str
) -> None:
    needs(*packages)
    with pytest.raises(ModelError) as caught:
        check(name, PLAIN)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_of_a_repository_is_not_run_and_a_missing_class_is_no_other(cache: Path) -> None:
    needs("torch", "transformers")
    brought = small(cache / "code", model_type="own", auto_map={"AutoConfig": "conf.Own"})
    (cache / "code" / "conf.py").write_text("raise SystemExit(7)")
    with pytest.raises(ModelError, match="reading its configuration failed"):
        check(brought, PLAIN)
    missing = small(cache / "class", model_type="bert", architectures=["BertForNothing"])
    with pytest.raises(ModelError, match="has no class BertForNothing"):
        check(missing, PLAIN)


@pytest.mark.slow
def test_outputs_that_are_no_tensors_are_refused() -> None:
    needs("torch", "torchvision")
    with pytest.raises(ModelError, match="returns a list of dict, and engines are measured with"):
        check("torchvision:ssdlite320_mobilenet_v3_large", PLAIN)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "package", "parameters", "macs"),
    [
        # batch norms are folded: 9,600 scales and shifts become 4,800 biases
        ("torchvision:resnet18", "torchvision", 11_689_512 - 4_800, 1_814_073_344),
        ("timm:resnet18", "timm", 11_689_512 - 4_800, 1_814_073_344),
        ("timm:vit_base_patch16_224", "timm", 86_567_656, 17_563_828_224),
        ("hf:bert", "transformers", 109_482_240, 11_174_215_680),
    ],
)
def test_parameters_and_multiply_accumulates_are_those_that_were_published(
    cache: Path, name: str, package: str, parameters: int, macs: int
) -> None:
    needs("torch", package)
    model = prepare(name, PLAIN, "fp32", None, cache)
    assert (
        abs(model.parameters - parameters) < 1_000
    )  # constants such as scales of attention count too
    assert model.macs_per_item == macs

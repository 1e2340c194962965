from __future__ import annotations

from helpers.trial_tables import table

from raybench.analysis.untrained import untrained, untrained_sentence

SEED = "timm:resnet18@timm=1.0.31,torch=2.14.1/seed=0/0ff1ce"


def test_random_models_of_packages_are_named_and_trained_ones_and_the_zoo_are_not():
    rows = table(
        {"model": "timm:resnet18", "model_identity": SEED},
        {"model": "hf:a/b", "model_identity": "hf:a/b@torch=2.14.1/seed=12/abc", "batch_size": 1},
        {"model": "timm:resnet50", "model_identity": SEED.replace("seed=0", "sha256=beef")},
        {"model": "lenet", "model_identity": "zoo:lenet@1/seed=0"},
        {"model": "mine.onnx", "model_identity": "sha256:beef"},
        {"model": "old", "model_identity": None},
    )
    assert untrained(rows) == ("hf:a/b", "timm:resnet18")
    assert "hf:a/b, timm:resnet18" in untrained_sentence(rows)
    assert untrained_sentence(rows.slice(2)) is None

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from helpers.tiny_graphs import tiny_conv

from raybench.cluster.file_transfer import bundle_model, local_model_path
from raybench.experiment import ModelSettings
from raybench.models.source import identity

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_model_arrives_whole_whatever_its_files_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    model, settings = tiny_conv(), ModelSettings()
    values = np.ones((5000, 3, 3, 3), np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values, "w"))
    path = tmp_path / "mine.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="entry.json")
    wanted = identity(str(path), settings)
    bundle = bundle_model(str(path))
    path.unlink()
    for _ in range(2):  # the second time it is there already
        received = local_model_path(str(path), settings, wanted, lambda: bundle)
        assert identity(received, settings) == wanted

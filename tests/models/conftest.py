from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

from raybench.experiment import ModelSettings
from raybench.models.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from raybench.models.model import Model


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def prepared(cache: Path) -> Callable[..., Model]:
    """A model of the session's cache: built by the first test that wants it."""

    def make(
        name: str, precision: str = "fp32", dialect: str | None = None, rewrite_lrn: bool = False
    ) -> Model:
        return prepare(name, ModelSettings(), precision, dialect, cache, rewrite_lrn)

    return make


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., str]:
    """Saves a graph as x.onnx and returns the path."""

    def save(model: onnx.ModelProto, **options: object) -> str:
        path = tmp_path / "x.onnx"
        onnx.save_model(model, path, **options)
        return str(path)

    return save

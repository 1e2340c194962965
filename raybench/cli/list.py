"""Catalogue: what can be named on the command line, and what it stands for."""

from __future__ import annotations

from dataclasses import fields

from rich.console import Console

from raybench.config import files
from raybench.engines import registry
from raybench.errors import ConfigError, nearest
from raybench.models import zoo


def show(words: list[str]) -> None:
    """Print all sections, or those that are named.

    Raises:
        ConfigError: for a section that does not exist.
    """
    sections = {
        "experiments": _experiments,
        "models": _models,
        "engines": _engines,
        "presets": _presets,
    }
    for word in words:
        if word not in sections:
            raise ConfigError(f"list knows no {word!r}. {nearest(word, sections)}")
    console = Console(highlight=False)
    for name in words or sections:
        console.print(name, style="bold", markup=False)
        for entry, meaning in sections[name]():
            console.print(f"  {entry:<14} {meaning}", markup=False, soft_wrap=True)


def _experiments() -> list[tuple[str, str]]:
    return [(name, files.question(path)) for name, path in files.experiment_files().items()]


def _presets() -> list[tuple[str, str]]:
    return [(name, files.question(path)) for name, path in files.presets().items()]


def _models() -> list[tuple[str, str]]:
    built = []
    for name, recipe in sorted(zoo.RECIPES.items()):
        shapes = ", ".join(
            f"{spec.name} {spec.dtype} {'x'.join(map(str, spec.shape))}" for spec in recipe.inputs
        )
        built.append((name, shapes))
    return [*built, ("FILE.onnx", "any ONNX model of yours; model.shapes.SYMBOL=N fixes its sizes")]


def _engines() -> list[tuple[str, str]]:
    entries = []
    for name in registry.names():
        engine = registry.get(name)
        traits = engine.traits
        options = ", ".join(f"{f.name}={f.default}" for f in fields(traits.settings))
        extra = f"; install raybench[{traits.extra}]" if traits.extra else ""
        entries.append((name, f"on {' or '.join(traits.device_kinds)}; engine.* {options}{extra}"))
    return entries

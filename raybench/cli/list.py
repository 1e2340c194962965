"""`raybench list`: lists what can be named on the command line."""

from __future__ import annotations

from dataclasses import asdict

from raybench.config.files import experiment_files, presets, question
from raybench.engines import registry
from raybench.errors import ConfigError, EngineUnavailable, nearest
from raybench.models import zoo
from raybench.models.named import catalogue
from raybench.report.terminal.console import open_console, print_line


def command(words: list[str]) -> int:
    """Print all sections, or those that are named; return 0.

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
    console = open_console()
    for section in words or sections:
        print_line(console, section, "bold")
        entries = sections[section]()
        width = max((len(name) for name, _ in entries), default=0)
        for name, description in entries:
            print_line(console, f"  {name:<{width}} {description}")
    return 0


def _experiments() -> list[tuple[str, str]]:
    return [(name, question(path)) for name, path in experiment_files().items()]


def _presets() -> list[tuple[str, str]]:
    return [(name, question(path)) for name, path in presets().items()]


_NAMED_INPUTS = 3
"""Inputs of a model that are named; a decoder's step has two caches for each of its blocks."""


def _models() -> list[tuple[str, str]]:
    models = []
    for name, recipe in sorted(zoo.RECIPES.items()):
        shapes = [
            f"{spec.name} {spec.dtype} {'x'.join(map(str, spec.shape))}" for spec in recipe.inputs
        ]
        more = len(shapes) - _NAMED_INPUTS
        shapes[_NAMED_INPUTS:] = [f"and {more} more"] if more > 0 else []
        models.append((name, ", ".join(shapes)))
    own = "any ONNX model of yours: model=FILE.onnx; model.shapes.SYMBOL=N fixes its sizes"
    return [*models, ("FILE.onnx", own), *_of_packages()]


def _of_packages() -> list[tuple[str, str]]:
    """Return the prefixes of models that other packages define, and whether they can be used here."""
    whose = {
        "timm": "a model of timm, such as timm:resnet18",
        "torchvision": "a model of torchvision, such as torchvision:resnet18",
        "hf": "a repository of the Hugging Face hub, a folder in its format, or a family, such as hf:bert",
    }
    missing = "; not installed: install raybench[torch]"
    return [
        (f"{prefix}:NAME", text + missing * (not catalogue.installed(prefix)))
        for prefix, text in whose.items()
    ]


def _engines() -> list[tuple[str, str]]:
    engines = []
    for name in registry.names():
        try:
            traits = registry.get(name).traits
        except EngineUnavailable as error:
            engines.append((name, f"not available: {error}"))
            continue
        defaults = asdict(traits.settings())
        options = ", ".join(f"{option}={default}" for option, default in defaults.items())
        extra = f"; install raybench[{traits.extra}]" if traits.extra else ""
        kinds = " or ".join(traits.device_kinds)
        engines.append((name, f"on {kinds}" + f"; engine.* {options}" * bool(options) + extra))
    return [*engines, *(("not used", clash) for clash in registry.clashes())]

"""Experiment files, presets and other groups of settings, by name."""

from __future__ import annotations

import os
from pathlib import Path

from raybench.config.yaml_files import first_comment, read_text
from raybench.engines import registry
from raybench.errors import ConfigError, nearest
from raybench.experiment import AXES
from raybench.paths import DATA

_KEYS = (*AXES, "experiment", "preset", "trials", "seed", "order", "rerun", "device", "cluster")
"""Keys that take a single value."""
OF_ONE_MODEL = "model"
"""The experiment of a command that names a model and no experiment: one point of that model."""


def experiment_files() -> dict[str, Path]:
    """Return every experiment by name; ./experiments/ overrides those that are shipped."""
    files = {path.stem: path for path in sorted((DATA / "experiments").glob("*.yaml"))}
    own = Path("experiments").absolute()  # a driver may change its folder later
    files.update({path.stem: path for path in sorted(own.glob("*.yaml"))})
    return files


def experiment_path(name: str) -> Path:
    """Return the file of an experiment, which is named or given as a path.

    Raises:
        ConfigError: when there is no such file.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser().absolute()
        if not os.path.lexists(path):
            raise ConfigError(
                f"Experiment file {name!r} does not exist. Give a path to a YAML file."
            )
        return path
    files = experiment_files()
    if name not in files:
        model = f"To measure a model, write model={name}. " if _is_model(name) else ""
        raise ConfigError(f"Unknown experiment {name!r}. {model}{nearest(name, files)}")
    return files[name]


def meant_by(name: str) -> str | None:
    """Return the word to write for the name of something, or None for a name that is unknown."""
    if _is_model(name):
        return f"Write model={name}."
    for key, names in (("experiment", experiment_files()), ("preset", presets())):
        if name in names:
            return f"Write {key}={name}."
    if name in registry.BUILT_IN:
        return f"Write engine={name}."
    return f"Write {name}=VALUE." if name in _KEYS else None


def _is_model(name: str) -> bool:
    from raybench.models import zoo  # heavy, and needed for a name that is no experiment's alone
    from raybench.models.named.catalogue import NamedModel

    return name.endswith(".onnx") or name in zoo.RECIPES or NamedModel.parse(name) is not None


def presets() -> dict[str, Path]:
    """Return every preset by name."""
    return group_files("preset")


def group_files(group: str) -> dict[str, Path]:
    """Return the files of a group of settings by name: conf/<group>/<name>.yaml."""
    return {path.stem: path for path in sorted((DATA / "conf" / group).glob("*.yaml"))}


def group_path(group: str, name: str) -> Path:
    """Return the file of one entry of a group.

    Raises:
        ConfigError: when the group has no such entry.
    """
    files = group_files(group)
    if name not in files:
        raise ConfigError(f"Unknown {group} {name!r}. {nearest(name, files)}")
    return files[name]


def question(path: Path) -> str:
    """Return the comment that a file begins with: the question of an experiment.

    Raises:
        ConfigError: when the file cannot be read.
    """
    return first_comment(read_text(path))

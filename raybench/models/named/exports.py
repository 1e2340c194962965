"""Named models as ONNX files in this node's cache: described without torch, exported once."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raybench.errors import ModelError
from raybench.models.cache import Cache, cache_dir, key_of, sha256_of
from raybench.models.named import user_caches
from raybench.models.named.child_process import ask
from raybench.models.provenance import Provenance
from raybench.models.seeds import check_seed
from raybench.models.shapes.input_shapes import close_shapes
from raybench.models.shapes.shape_request import OpenInput
from raybench.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from raybench.experiment import ModelSettings
    from raybench.models.model import TensorSpec
    from raybench.models.named.catalogue import NamedModel

logger = logging.getLogger(__name__)

VERSION = 1
"""Incremented when the same name gives another graph."""

_GRAPH = "model.onnx"
_OF_THE_HUB = re.compile(r"\w[\w.-]*(/[\w.-]+)?(@[\w./-]+)?")
"""A name, or an owner's, with a revision if there is one; anything else is no repository."""
_SAYS_EVERY_S = 30.0
_FETCH_S = 60.0
"""Longest time for the configuration of a model on the hub, a few kilobytes."""


class _UnknownNameError(Exception):
    """A name that the package does not know; `args` are similar ones."""


@dataclass(frozen=True)
class Description:
    """What a package says of a model before it is exported.

    Attributes:
        inputs: with symbols for the sizes that can be chosen.
        sizes: what a symbol is where the user has not set it.
        ranges: lowest and highest value of inputs that are no indices.
        places: where trained weights may be: (repository, file) on the hub, or ("", file) of torch.hub.
        folder: that holds its configuration, for a model of the hub.
    """

    inputs: tuple[OpenInput, ...]
    sizes: Mapping[str, int]
    ranges: Mapping[str, tuple[int, int]]
    places: tuple[tuple[str, str], ...]
    folder: Path | None

    @property
    def weights(self) -> tuple[Path, ...]:
        """Files of trained weights in the user's caches; none where there are none."""
        if self.folder is not None:
            return user_caches.weights_in(self.folder)
        for repository, name in self.places:
            folder = (
                user_caches.snapshot(repository) if repository else user_caches.checkpoint_folder()
            )
            if folder is not None and (folder / name).is_file():
                return (folder / name,)
        return ()


def describe(model: NamedModel) -> Description:
    """Return what the package says of a model, from the cache or from a process that imports it.

    Raises:
        ModelError: the extra `torch` is missing, the name is unknown, or its inputs cannot be made.
    """
    folder = _folder_on_disk(model)
    try:
        return _described(model, folder)
    except _UnknownNameError as error:
        near = error.args
    if model.library == "hf" and _OF_THE_HUB.fullmatch(model.name):
        return _described(model, _fetched(model, near))
    raise ModelError(_unknown(model, near))


def identity(model: NamedModel, settings: ModelSettings) -> str:
    """Return an id of packages, name, configuration, weights and export: equal ids, equal graphs.

    Random weights are drawn by torch, whose last bits may differ between kinds of CPUs.
    """
    return _Export.of(model, settings).identity


def exported_file(model: NamedModel, settings: ModelSettings) -> Path:
    """Return the ONNX file of a model, from the cache or exported into it.

    Raises:
        ModelError: it cannot be exported.
    """
    export = _Export.of(model, settings)
    return export.entry_folder() / _GRAPH


def is_exported(identity: str) -> bool:
    """Return whether this node's cache has the export of an identity."""
    return _cache().has(_export_key(identity))


@contextlib.contextmanager
def _said_meanwhile(model: NamedModel) -> Iterator[None]:
    """Say every half minute for how long a model has been exported: a large one takes minutes."""
    began, ended = time.monotonic(), threading.Event()

    def say() -> None:
        while not ended.wait(_SAYS_EVERY_S):
            waited_s = time.monotonic() - began
            logger.warning("Exporting %s to ONNX for %.0f s.", printable(model), waited_s)

    threading.Thread(target=say, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _export_key(identity: str) -> str:
    return key_of(kind="export", identity=identity)


@dataclass(frozen=True)
class _Export:
    """One export: all that decides what its graph is."""

    model: NamedModel
    packages: Mapping[str, str]
    description: Description
    inputs: tuple[TensorSpec, ...]
    weights: tuple[Path, ...]
    seed: int

    @classmethod
    def of(cls, model: NamedModel, settings: ModelSettings) -> _Export:
        described = describe(model)
        symbols = {dim for each in described.inputs for dim in each.dims or ()}
        whole = {key for key, value in settings.shapes.items() if not isinstance(value, int)}
        free = {
            dim for each in described.inputs if each.name not in whole for dim in each.dims or ()
        }
        sizes = {key: size for key, size in described.sizes.items() if key in symbols & free}
        closed = close_shapes(str(model), described.inputs, {**sizes, **settings.shapes})
        check_seed(settings.seed)
        weights = described.weights
        return cls(model, model.packages, described, closed.inputs, weights, settings.seed)

    @property
    def weights_id(self) -> str:
        if not self.weights:
            return f"seed={self.seed}"
        return f"sha256={key_of(files=[_digest(path) for path in self.weights])}"

    @property
    def identity(self) -> str:
        folder = self.description.folder
        packages = ",".join(f"{name}={version}" for name, version in self.packages.items())
        rest = key_of(
            version=VERSION,
            inputs=[[spec.name, spec.dtype, spec.shape] for spec in self.inputs],
            config=None if folder is None else sha256_of(folder / "config.json"),
        )
        own = os.path.isdir(os.path.expanduser(self.model.name))
        name = "folder" if own else self.model.name
        return f"{self.model.library}:{name}@{packages}/{self.weights_id}/{rest}"

    def entry_folder(self) -> Path:
        return _cache().entry(_export_key(self.identity), self._build).folder

    def _build(self, folder: Path) -> dict[str, Any]:
        logger.warning("Exporting %s to ONNX, once for this machine.", printable(self.model))
        provenance = Provenance(
            str(self.model), self.packages, self.weights_id, 0, self.description.ranges, self.notes
        )
        request = {
            **_request(self.model, self.description.folder),
            "weights": [str(path) for path in self.weights],
            "seed": self.seed,
            "inputs": [[spec.name, spec.dtype, spec.shape] for spec in self.inputs],
            "target": str(folder / _GRAPH),
            "provenance": vars(provenance),
        }
        with _said_meanwhile(self.model):
            return ask("export", request)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a row must say: where the weights come from, first of all if they are random."""
        if self.weights:
            name = self.weights[0].name
            where = self.description.folder or self.weights[0].parent
            place = _readable(where)
            return (f"Trained weights: {name} of {place}, {self.weights_id[:19]}.",)
        return (
            f"Random weights (seed {self.seed}): {self.model} is not trained here, so its outputs mean "
            f"nothing. {_how_to_train(self.description, self.model)}",
        )


def _readable(folder: Path) -> str:
    """Return what a folder of weights is: a repository of the hub, torch.hub, or its own name."""
    hub = next((part for part in folder.parts if part.startswith("models--")), None)
    if hub is not None:
        return hub.removeprefix("models--").replace("--", "/")
    return "torch.hub" if folder == user_caches.checkpoint_folder() else folder.name


def _how_to_train(description: Description, model: NamedModel) -> str:
    """Return how to get trained weights."""
    repository = next((place for place, _ in description.places if place), None)
    if os.path.isdir(os.path.expanduser(model.name)):
        return "For trained weights put model.safetensors beside its config.json."
    if model.library == "hf" and description.folder is not None:
        repository = model.name
    if repository is not None:
        name, _, revision = repository.partition("@")
        return (
            f"For trained weights run: hf download {name}{revision and f' --revision {revision}'}"
        )
    checkpoint = next((name for place, name in description.places if not place), None)
    if checkpoint is not None:
        return f"For trained weights put {checkpoint} into {user_caches.checkpoint_folder()}."
    return "No trained weights are known for this name."


def _folder_on_disk(model: NamedModel) -> Path | None:
    """Return the folder with the configuration of a model of the hub; None where there is none."""
    if model.library != "hf":
        return None
    own = Path(model.name).expanduser()
    folder = own if own.is_dir() else user_caches.snapshot(model.name)
    return folder if folder is not None and (folder / "config.json").is_file() else None


def _described(model: NamedModel, folder: Path | None) -> Description:
    key = key_of(
        kind="description",
        version=VERSION,
        library=model.library,
        name=model.name if folder is None else None,
        config=None if folder is None else sha256_of(folder / "config.json"),
        packages=model.packages,
    )
    request = _request(model, folder)
    facts = _cache().entry(key, functools.partial(_ask_description, request)).facts
    return Description(
        tuple(OpenInput(name, dtype, tuple(dims)) for name, dtype, dims in facts["inputs"]),
        facts["sizes"],
        {name: (low, high) for name, (low, high) in facts["ranges"].items()},
        tuple((repository, name) for repository, name in facts["places"]),
        folder,
    )


def _ask_description(request: dict[str, Any], _folder: Path) -> dict[str, Any]:
    facts = ask("describe", request)
    if "near" in facts:
        raise _UnknownNameError(*facts["near"])
    return facts


def _fetched(model: NamedModel, near: Sequence[str]) -> Path:
    """Return the folder of a configuration that was fetched from the hub.

    Raises:
        ModelError: it is not there, or the hub must not or cannot be asked.
    """
    if user_caches.is_offline():
        raise ModelError(
            f"Model {str(model)!r} is not in the cache of the hub ({user_caches.hub_folder()}), and offline mode "
            f"(HF_HUB_OFFLINE) forbids to ask for it. {_unknown(model, near)}"
        )
    logger.warning(
        "Asking the hub for the configuration of %s; HF_HUB_OFFLINE=1 spares it.", printable(model)
    )
    answer = ask("fetch", _request(model, None), limit_s=_FETCH_S, online=True)
    if "reason" in answer:
        raise ModelError(
            f"Model {str(model)!r} has no configuration in the cache of the hub, and the hub gave none: "
            f"{answer['reason']}. {_unknown(model, near)}"
        )
    folder = _folder_on_disk(model)
    if folder is None:
        raise ModelError(
            f"Model {str(model)!r} was fetched from the hub, and its config.json is not in "
            f"{user_caches.hub_folder()}. Check HF_HOME."
        )
    return folder


def _unknown(model: NamedModel, near: Sequence[str]) -> str:
    similar = f"The nearest names are {', '.join(near)}." if near else "No name is similar."
    if not model.name:
        return (
            f"Write a name behind the colon, such as {model.library}:{near[0] if near else 'NAME'}."
        )
    if model.library == "hf" and model.name.startswith(("/", ".", "~")):
        return f"{model.name!r} is no folder with a config.json in it."
    kind = "family of transformers" if model.library == "hf" else f"model of {model.library}"
    return f"{model.name!r} is no {kind}. {similar}"


def _request(model: NamedModel, folder: Path | None) -> dict[str, Any]:
    return {
        "model": str(model),
        "library": model.library,
        "name": model.name,
        "folder": None if folder is None else str(folder),
    }


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, which the cache keeps for a file of that size and time."""
    real = path.resolve()
    status = real.stat()
    key = key_of(kind="digest", path=str(real), size=status.st_size, mtime_ns=status.st_mtime_ns)
    return str(_cache().entry(key, lambda _: {"sha256": sha256_of(real)}).facts["sha256"])


def _cache() -> Cache:
    return Cache(cache_dir() / "exports")

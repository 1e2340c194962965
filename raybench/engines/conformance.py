"""The contract: what every engine must do, as plain checks that its tests call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.engines.base import BuildsAhead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from raybench.engines.base import Engine, Load

CLASS_FACTS = (
    "name",
    "extra",
    "device_kinds",
    "int8_dialect",
    "bf16_dialect",
    "rewrites_lrn",
    "reads_graph",
    "Settings",
)


def check(
    engine: type[Engine], load: Load, reference: dict[str, np.ndarray[Any, Any]] | None
) -> None:
    """Run every check on one engine; raises AssertionError that names the broken promise.

    Args:
        engine: the class under test.
        load: a small model, a pool of at least two distinct batches, `inflight` of 1 or more.
        reference: fp32 outputs of batch 0 of the pool; None for an engine that computes nothing.
    """
    for promise in checks():
        promise(engine, load, reference)


def checks() -> Iterator[Callable[..., None]]:
    """Each promise as a function of (engine, load, reference)."""
    yield _tells_what_it_is
    yield _keeps_the_stream_in_order
    yield _computes_the_batch_it_was_given
    yield _gives_outputs_of_what_was_collected
    yield _tells_what_it_loaded
    yield _tells_its_layers
    yield _finds_what_it_built_ahead
    yield _closes_twice


def _promise(held: bool, words: str) -> None:
    if not held:
        raise AssertionError(words)


def _tells_what_it_is(engine: type[Engine], load: Load, reference: Any) -> None:
    missing = [fact for fact in CLASS_FACTS if not hasattr(engine, fact)]
    _promise(not missing, f"{engine.__name__} lacks {missing}")
    _promise(engine.unavailable() is None, f"{engine.name} is unavailable: {engine.unavailable()}")
    _promise(
        engine.unsupported(load.model.precision, load.device, load.transfers) is None,
        f"{engine.name} does not support what the contract gives it",
    )


def _keeps_the_stream_in_order(engine: type[Engine], load: Load, reference: Any) -> None:
    loaded = engine.load(load)
    try:
        for sequence in range(load.inflight):
            loaded.submit(sequence)
        for sequence in range(load.inflight, 3 * load.batches.count + load.inflight):
            spans = loaded.collect(sequence - load.inflight)
            if loaded.info.device_clock:
                _promise(
                    spans is not None and min(spans) >= 0,
                    f"{engine.name} claims a device clock and returned {spans}",
                )
            else:
                _promise(spans is None, f"{engine.name} has no device clock but returned {spans}")
            loaded.submit(sequence)
        last = 3 * load.batches.count + load.inflight
        for sequence in range(last - load.inflight, last):
            loaded.collect(sequence)
    finally:
        loaded.close()


def _computes_the_batch_it_was_given(engine: type[Engine], load: Load, reference: Any) -> None:
    loaded = engine.load(load)
    try:
        found = []
        for sequence in range(load.batches.count + 1):
            loaded.submit(sequence)
            loaded.collect(sequence)
            found.append(loaded.outputs())
    finally:
        loaded.close()
    if reference is None:
        _promise(found[0] == {}, f"{engine.name} computes nothing and yet returned outputs")
        return
    for name, expected in reference.items():
        _promise(
            np.allclose(found[0][name], expected, rtol=1e-2, atol=1e-3),
            f"{engine.name} computed another {name!r} than the fp32 reference",
        )
        _promise(
            not np.array_equal(found[0][name], found[1][name]),
            f"{engine.name} did not move on to the second batch of the pool",
        )
        _promise(
            np.array_equal(found[0][name], found[-1][name]),
            f"{engine.name} did not come back to the first batch of the pool",
        )


def _gives_outputs_of_what_was_collected(engine: type[Engine], load: Load, reference: Any) -> None:
    loaded = engine.load(load)
    try:
        for sequence in range(load.inflight):
            loaded.submit(sequence)
        loaded.collect(0)
        found = loaded.outputs()
        for sequence in range(1, load.inflight):
            loaded.collect(sequence)
    finally:
        loaded.close()
    for name, expected in (reference or {}).items():
        _promise(
            np.allclose(found[name], expected, rtol=1e-2, atol=1e-3),
            f"{engine.name} returned {name!r} of a batch that was submitted later",
        )


def _tells_what_it_loaded(engine: type[Engine], load: Load, reference: Any) -> None:
    loaded = engine.load(load)
    try:
        info = loaded.info
        _promise(bool(info.version), f"{engine.name} tells no version")
        _promise(info.build_s >= 0 and info.load_s >= 0, f"{engine.name} tells negative times")
        _promise(
            info.simulated or reference is not None, f"{engine.name} hides that it is simulated"
        )
    finally:
        loaded.close()


def _tells_its_layers(engine: type[Engine], load: Load, reference: Any) -> None:
    loaded = engine.load(load)
    try:
        loaded.submit(0)
        loaded.collect(0)
        layers = loaded.layers(2)
    finally:
        loaded.close()
    _promise(
        reference is not None or not layers, f"{engine.name} computes nothing and tells of layers"
    )
    for layer in layers:
        _promise(bool(layer.name), f"{engine.name} has a layer without a name")
        _promise(layer.time_ns >= 0, f"{engine.name} timed {layer.name!r} below zero")
        json.loads(layer.info_json or "null")


def _finds_what_it_built_ahead(engine: type[Engine], load: Load, reference: Any) -> None:
    if not issubclass(engine, BuildsAhead):
        return
    files = engine.prebuild(load)
    missing = [name for name in files if not (load.cache_dir / name).is_file()]
    _promise(bool(files) and not missing, f"built ahead, but not there: {missing or 'no file'}")
    loaded = engine.load(load)
    hit = loaded.info.build_cache_hit
    loaded.close()
    _promise(hit is True, f"built ahead, and then build_cache_hit={hit}")


def _closes_twice(engine: type[Engine], load: Load, reference: Any) -> None:
    loaded = engine.load(load)
    loaded.close()
    loaded.close()

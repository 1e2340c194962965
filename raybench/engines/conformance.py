"""Conformance of engines: plain checks of the interface that every engine's tests run."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.engines import plugins
from raybench.engines.base import (
    BuildsAhead,
    KeepsState,
    Load,
    ReadsHostInputs,
    ReportsLayers,
    TakesPartBatches,
)
from raybench.experiment import ModelSettings
from raybench.machine import devices
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare
from raybench.models.reference import reference_outputs, reference_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from raybench.engines.base import EngineBase

Outputs = dict[str, np.ndarray[Any, Any]]


def check_engine(engine: type[EngineBase], folder: Path, model: str = "lenet") -> None:
    """Run every check on one engine with a model in fp32 on the first core: a test in one line.

    Args:
        engine: the class under test.
        folder: for the model's file, e.g. pytest's `tmp_path`.
        model: name in the zoo or path of an ONNX file.

    Raises:
        AssertionError: a check failed; the message says what the engine did.
    """
    plain = ModelSettings()
    prepared = prepare(model, plain, "fp32", None, folder)
    batches = BatchPool(prepared.fed_inputs, 3, seed=0, ranges=prepared.ranges, min_bytes=1 << 12)
    load = Load(
        model=prepared,
        batches=batches,
        device=devices.core(devices.cores()[0]),
        inflight=2,
        transfers=True,
        options=engine.traits.settings(),
        memory_limit_bytes=None,
        cache_dir=folder,
    )
    check(engine, load, reference_outputs(prepared, batches, 3, folder))


def check(engine: type[EngineBase], load: Load, reference: Outputs | None) -> None:
    """Run every check on one engine.

    Args:
        engine: the class under test.
        load: a small model, a pool of at least two distinct batches, `inflight` of 1 or more.
        reference: fp32 outputs of batch 0 of the pool; None for an engine that computes nothing.

    Raises:
        AssertionError: a check failed; the message says what the engine did.
    """
    for one in checks():
        one(engine, load, reference)


def check_builds(engine: type[BuildsAhead], load: Load) -> None:
    """Run the checks of what an engine builds ahead; they load nothing.

    Args:
        engine: the class under test.
        load: a small model.

    Raises:
        AssertionError: a check failed; the message says what the engine did.
    """
    files = engine.prebuild(load)
    paths = [load.cache_dir / name for name in files]
    missing = [str(path) for path in paths if not path.is_file()]
    _require(bool(files) and not missing, f"built ahead, but missing: {missing or 'every file'}")
    written = [path.stat().st_mtime_ns for path in paths]
    _require(engine.prebuild(load) == files, "built ahead again, and named other files")
    again = [path.stat().st_mtime_ns for path in paths]
    _require(again == written, "built ahead what it had built before")


def checks() -> Iterator[Callable[[type[EngineBase], Load, Outputs | None], None]]:
    """Yield each check."""
    yield _has_traits
    yield _keeps_the_stream_in_order
    yield _computes_the_right_batch
    yield _goes_on_where_the_last_batch_ended
    yield _returns_outputs_of_the_collected_batch
    yield _computes_parts_as_in_full_batches
    yield _computes_what_is_written_into_its_inputs
    yield _reports_what_it_loaded
    yield _reports_its_layers
    yield _finds_what_it_built_ahead
    yield _closes_twice


def _name(engine: type[EngineBase]) -> str:
    return engine.traits.name or engine.__name__


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _has_traits(engine: type[EngineBase], load: Load, reference: Outputs | None) -> None:
    problem = plugins.problem_of(engine)
    _require(problem is None, f"{engine.__name__} {problem}")
    name = _name(engine)
    _require(engine.unavailable() is None, f"{name} is unavailable: {engine.unavailable()}")
    _require(
        engine.unsupported(load.model.precision, load.device, load.transfers) is None,
        f"{name} does not support the load of this check",
    )


def _keeps_the_stream_in_order(
    engine: type[EngineBase], load: Load, reference: Outputs | None
) -> None:
    name = _name(engine)
    loaded = engine.load(load)
    try:
        for sequence in range(load.inflight):
            loaded.submit(sequence)
        for sequence in range(load.inflight, 3 * load.batches.count + load.inflight):
            spans = loaded.collect(sequence - load.inflight)
            if loaded.info.device_clock:
                _require(
                    spans is not None and min(spans) >= 0,
                    f"{name} claims a device clock and returned {spans}",
                )
            else:
                _require(spans is None, f"{name} has no device clock but returned {spans}")
            loaded.submit(sequence)
        last = 3 * load.batches.count + load.inflight
        for sequence in range(last - load.inflight, last):
            loaded.collect(sequence)
    finally:
        loaded.close()


def _computes_the_right_batch(
    engine: type[EngineBase], load: Load, reference: Outputs | None
) -> None:
    if load.model.state:
        return
    name = _name(engine)
    loaded = engine.load(load)
    try:
        outputs = []
        for sequence in range(load.batches.count + 1):
            loaded.submit(sequence)
            loaded.collect(sequence)
            outputs.append(loaded.outputs())
    finally:
        loaded.close()
    if reference is None:
        _require(outputs[0] == {}, f"{name} computes nothing and yet returned outputs")
        return
    for tensor, expected in reference.items():
        _require(
            np.allclose(outputs[0][tensor], expected, rtol=1e-2, atol=1e-3),
            f"{name} computed another {tensor!r} than the fp32 reference",
        )
        _require(
            not np.array_equal(outputs[0][tensor], outputs[1][tensor]),
            f"{name} did not move on to the second batch of the pool",
        )
        _require(
            any(np.array_equal(outputs[0][tensor], later[tensor]) for later in outputs[2:]),
            f"{name} did not come back to the first batch of the pool",
        )


def _goes_on_where_the_last_batch_ended(
    engine: type[EngineBase], load: Load, reference: Outputs | None
) -> None:
    unlike = (
        load.model.fed_inputs and not load.transfers
    )  # it may leave out some batches of the pool
    if not load.model.state or unlike:
        return
    name = _name(engine)
    _require(issubclass(engine, KeepsState), f"{name} is given a model with state")
    expected = list(reference_steps(load.model, load.batches, _steps(load)))
    loaded: Any = engine.load(load)
    try:
        for again in ("", " after a restart"):
            stream = _outputs(loaded, load.inflight, [loaded.submit] * len(expected))
            for step, (outputs, wanted) in enumerate(zip(stream, expected, strict=True)):
                for tensor, values in wanted.items():
                    _require(
                        np.allclose(outputs[tensor], values, rtol=1e-2, atol=1e-3),
                        f"{name} computed another {tensor!r} in batch {step}{again} than a plain loop",
                    )
            loaded.restart()
    finally:
        loaded.close()


def _steps(load: Load) -> int:
    """Return a number of batches after which every ring has been written once more than all over."""
    shapes = {spec.name: spec.with_batch(1) for spec in load.model.inputs}
    rings = (each for each in load.model.state if each.ring_axis is not None)
    return 3 + max((shapes[each.input][each.ring_axis or 0] for each in rings), default=0)


def _returns_outputs_of_the_collected_batch(
    engine: type[EngineBase], load: Load, reference: Outputs | None
) -> None:
    loaded = engine.load(load)
    try:
        for sequence in range(load.inflight):
            loaded.submit(sequence)
        loaded.collect(0)
        outputs = loaded.outputs()
        for sequence in range(1, load.inflight):
            loaded.collect(sequence)
    finally:
        loaded.close()
    for tensor, expected in (reference or {}).items():
        _require(
            np.allclose(outputs[tensor], expected, rtol=1e-2, atol=1e-3),
            f"{_name(engine)} returned {tensor!r} of a batch that was submitted later",
        )


def _computes_parts_as_in_full_batches(
    engine: type[EngineBase], load: Load, reference: Outputs | None
) -> None:
    if not issubclass(engine, TakesPartBatches) or load.model.state:
        return
    name, full = _name(engine), load.batches.batch_size
    held = [full - sequence % full for sequence in range(3 * full)]
    held += held[::-1]
    loaded = engine.load(load)
    try:
        expected = list(_outputs(loaded, load.inflight, [loaded.submit] * len(held)))
    finally:
        loaded.close()
    loaded = engine.load(replace(load, part_batches=True))
    try:
        sizes = tuple(loaded.sizes) or (full,)
        _require(
            sizes == tuple(sorted(set(sizes))) and sizes[0] > 0 and sizes[-1] == full,
            f"{name} has the sizes {sizes} for batches of up to {full}",
        )
        submits = [partial(loaded.submit_part, items=items) for items in held]
        parts = list(_outputs(loaded, load.inflight, submits))
    finally:
        loaded.close()
    axes = {spec.name: spec.batch_axis for spec in load.model.outputs}
    for items, part, whole in zip(held, parts, expected, strict=True):
        size = next(size for size in sizes if size >= items)
        for tensor, values in part.items():
            axis = axes.get(tensor, 0)
            if axis is not None:
                _require(
                    values.shape[axis] == size,
                    f"{name} computed {values.shape[axis]} of {tensor!r} for {items} items, not {size}",
                )
                values, whole[tensor] = (
                    each.take(range(items), axis=axis) for each in (values, whole[tensor])
                )
            _require(
                np.allclose(values, whole[tensor], rtol=1e-4, atol=1e-5),
                f"{name} computed another {tensor!r} for {items} items than in a full batch",
            )


def _computes_what_is_written_into_its_inputs(
    engine: type[EngineBase], load: Load, reference: Outputs | None
) -> None:
    if not issubclass(engine, ReadsHostInputs) or load.model.state or not load.transfers:
        return
    name, count = _name(engine), load.batches.count
    loaded: Any = engine.load(load)
    try:
        first, second = loaded.host_inputs(0), loaded.host_inputs(1)
        kept, copies = (
            {tensor: a.copy() for tensor, a in each.items()} for each in (first, second)
        )
        _require(
            copies.keys() == load.batches.batch(0).keys(), f"{name} has inputs {sorted(copies)}"
        )
        outputs = []
        for sequence in range(count + 1):
            if sequence == count:  # batches of a pool may share items: batch 1 is another one now
                for tensor, values in copies.items():
                    first[tensor][...] = values
            loaded.submit(sequence)
            loaded.collect(sequence)
            outputs.append(loaded.outputs())
        for tensor, values in kept.items():
            first[tensor][...] = values
    finally:
        loaded.close()
    for tensor in reference or {}:
        _require(
            np.allclose(outputs[count][tensor], outputs[1][tensor], rtol=1e-4, atol=1e-5),
            f"{name} computed {tensor!r} of what its inputs held before they were written",
        )


def _outputs(
    loaded: EngineBase, inflight: int, submits: Sequence[Callable[[int], None]]
) -> Iterator[Outputs]:
    """Yield the outputs of each batch of a stream that is kept as full as it may be."""
    for sequence in range(len(submits) + inflight):
        if sequence >= inflight:
            loaded.collect(sequence - inflight)
            yield loaded.outputs()
        if sequence < len(submits):
            submits[sequence](sequence)


def _reports_what_it_loaded(
    engine: type[EngineBase], load: Load, reference: Outputs | None
) -> None:
    name = _name(engine)
    loaded = engine.load(load)
    try:
        info = loaded.info
        times = [seconds for seconds in (info.build_s, info.load_s) if seconds is not None]
        _require(all(seconds >= 0 for seconds in times), f"{name} reports negative times")
        _require(
            info.simulated or reference is not None, f"{name} does not report that it is simulated"
        )
    finally:
        loaded.close()


def _reports_its_layers(engine: type[EngineBase], load: Load, reference: Outputs | None) -> None:
    name = _name(engine)
    if not issubclass(engine, ReportsLayers):
        return
    loaded = engine.load(load)
    try:
        loaded.submit(0)
        loaded.collect(0)
        layers = loaded.layers(2)
    finally:
        loaded.close()
    _require(reference is not None or not layers, f"{name} computes nothing but reports layers")
    for layer in layers:
        _require(bool(layer.name), f"{name} has a layer without a name")
        _require(layer.time_ns >= 0, f"{name} reports a negative time for {layer.name!r}")
        json.loads(layer.info_json or "null")


def _finds_what_it_built_ahead(
    engine: type[EngineBase], load: Load, reference: Outputs | None
) -> None:
    if not issubclass(engine, BuildsAhead):
        return
    check_builds(engine, load)
    loaded = engine.load(load)
    hit = loaded.info.build_cache_hit
    loaded.close()
    _require(hit is True, f"built ahead, and then build_cache_hit={hit}")


def _closes_twice(engine: type[EngineBase], load: Load, reference: Outputs | None) -> None:
    loaded = engine.load(load)
    loaded.close()
    loaded.close()

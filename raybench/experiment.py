"""Experiment, Grid, Point: a named question, its axes, and the cells they span."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import asdict, dataclass, field
from typing import Any

METHOD_VERSION = 1
"""Rises when an estimator or the meaning of a stored number changes."""

AXES = ("model", "precision", "batch_size", "workers", "engine", "inflight", "transfers")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")


@dataclass(frozen=True)
class ModelSettings:
    """What a model needs to be told beyond its name.

    Attributes:
        shapes: sizes of dynamic dimensions, by symbol ("sequence") or by input ("ids": [N, 128]).
        ranges: lowest and highest value of an integer input, by input name.
        seed: of the random weights of a zoo model.
    """

    shapes: dict[str, Any] = field(default_factory=dict)
    ranges: dict[str, list[int]] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class MeasureSettings:
    """How long and how a point is measured; presets fill it.

    Attributes:
        block_s: length of a block; blocks are the unit of analysis.
        block_min_batches: fewest batches in a block.
        warmup_min_s: shortest warm-up.
        warmup_min_batches: fewest batches of warm-up.
        warmup_max_s: longest warm-up.
        warmup_window_blocks: blocks in each of the two windows that must agree.
        warmup_advance_blocks: step between tries.
        warmup_agree: largest relative difference of the two windows.
        min_s: shortest measurement.
        max_s: longest measurement.
        look_s: time between two looks of the driver.
        looks_in_a_row: looks that must find the target met.
        target: relative half-width of the confidence interval.
        n_eff_min: fewest effective samples.
        verdict_best: the best verdict that this preset may give.
    """

    block_s: float = 1.0
    block_min_batches: int = 4
    warmup_min_s: float = 5.0
    warmup_min_batches: int = 20
    warmup_max_s: float = 60.0
    warmup_window_blocks: int = 10
    warmup_advance_blocks: int = 5
    warmup_agree: float = 0.005
    min_s: float = 30.0
    max_s: float = 120.0
    look_s: float = 10.0
    looks_in_a_row: int = 2
    target: float = 0.005
    n_eff_min: float = 10.0
    verdict_best: str = "stable"


@dataclass(frozen=True)
class Point:
    """One cell of the grid, complete and frozen. A trial is one repeat of it in fresh workers.

    Attributes:
        model_identity: what the model is made of: a zoo recipe and seed, or the hash of a file.
        device: "gpu" or "cpu".
        engine_options: (name, value) pairs of every option of the engine, sorted.
        memory_limit_bytes: the device is treated as no larger than this; None for all of it.
        samples: whether raw batch latencies are stored; not part of the identity.
    """

    model: str
    model_identity: str
    model_settings: ModelSettings
    precision: str
    batch_size: int
    workers: int
    engine: str
    engine_options: tuple[tuple[str, Any], ...]
    inflight: int
    transfers: bool
    device: str
    memory_limit_bytes: int | None
    measure: MeasureSettings
    preset: str

    @property
    def id(self) -> str:
        """20 hex digits of SHA-256 over canonical JSON of all that bears on the measurement.

        The same across processes, key orders and Python versions. Names and paths stand outside:
        the model counts by `model_identity`.
        """
        facts = asdict(self)
        for name in ("model", "preset"):
            del facts[name]
        facts["engine_options"] = dict(self.engine_options)
        facts["method_version"] = METHOD_VERSION
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

"""What a user sees of a build: the builder's phases, and how long such a plan took before."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

from raybench.engines.tensorrt import build_progress
from raybench.engines.tensorrt.build_progress import BuildProgress
from raybench.engines.tensorrt.engine import TensorRTEngine
from raybench.engines.tensorrt.plans import PlanCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helpers.fake_gpu import FakeTrt

    from raybench.engines.base import Load


class Library:
    """Of TensorRT 10 what a monitor needs."""

    class IProgressMonitor:
        pass


def phases(last_s: float | None = None) -> tuple[list[str], object]:
    said: list[str] = []
    config = SimpleNamespace(progress_monitor=None)
    progress = BuildProgress(lambda step, detail: said.append(detail), last_s)
    build_progress.attach(Library, config, progress)
    return said, config.progress_monitor


def test_the_innermost_phase_is_said_with_its_steps() -> None:
    said, monitor = phases()
    monitor.phase_start("Building engine", None, 6)
    monitor.phase_start("Timing graph nodes", "Building engine", 157)
    assert monitor.step_complete("Timing graph nodes", 11) is True
    assert said[-1] == "timing graph nodes, 12 of 157"
    monitor.phase_finish("Timing graph nodes")
    assert said[-1] == "building engine, 0 of 6"
    monitor.phase_finish("Building engine")
    assert said[-1] == ""


def test_how_long_such_a_plan_took_stands_beside_it() -> None:
    said, monitor = phases(60.7)
    assert said == ["such a plan took 61 s"]
    monitor.phase_start("Building engine", None, 6)
    assert said[-1] == "building engine, 0 of 6; such a plan took 61 s"


def test_a_library_without_a_monitor_is_left_alone() -> None:
    config = SimpleNamespace()
    build_progress.attach(Library, config, BuildProgress(lambda *_: None, None))
    assert vars(config) == {}


def test_the_last_plan_of_the_same_graph_says_how_long(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    assert cache.last_build_s({"onnx_sha256": "a"}) is None
    for key, sha256, build_s in (("1", "a", 61.0), ("2", "b", 9.0)):
        header = {"facts": {"onnx_sha256": sha256}, "build_s": build_s}
        (tmp_path / f"{key}.json").write_text(json.dumps(header))
    (tmp_path / "3.json").write_text("damaged")
    assert cache.last_build_s({"onnx_sha256": "a", "batch": 8}) == 61.0


def test_an_engine_says_that_it_builds_and_when_that_has_ended(
    trt: FakeTrt, make_load: Callable[..., Load]
) -> None:
    said: list[tuple[str, str]] = []
    for batch_size in (3, 4):
        load = replace(make_load(batch_size=batch_size), on_step=lambda *step: said.append(step))
        TensorRTEngine.load(load).close()
    assert [step for step, _ in said] == ["building the plan", "", "building the plan", ""]
    assert said[0][1] == ""
    assert said[2][1].startswith("such a plan took ")
    TensorRTEngine.load(load).close()
    assert len(said) == 4  # nothing is built again

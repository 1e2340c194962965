"""PlanCache: whole plans or none, built once, across threads."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from raybench.engines.tensorrt.builder import Built
from raybench.engines.tensorrt.plans import PlanCache, key_of

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"gpu": "NVIDIA H200", "shapes": {"x": ((1, 4), (1, 4), (1, 4))}}


def _build() -> Built:
    return Built(b"plan", 1.5, None)


def _never() -> Built:
    raise AssertionError("built again")


def test_a_plan_is_built_once(tmp_path: Path) -> None:
    first = PlanCache(tmp_path).get(FACTS, _build)
    again = PlanCache(tmp_path).get(FACTS, _never)
    assert (first.data, first.hit, again.data, again.hit) == (b"plan", False, b"plan", True)
    assert again.build_s == 1.5
    assert first.sha256 == again.sha256


def test_key_is_one_of_facts_not_of_their_order() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})


@pytest.mark.parametrize("content", [b"", b"pl", b"PLAN", b"plan and more"])
def test_a_corrupt_plan_is_built_again(tmp_path: Path, content: bytes) -> None:
    cache = PlanCache(tmp_path)
    key = cache.get(FACTS, _build).key
    (tmp_path / f"{key}.plan").write_bytes(content)
    assert not cache.get(FACTS, _build).hit
    assert cache.get(FACTS, _never).data == b"plan"


@pytest.mark.parametrize("header", ["", "{}", "[]", "null", '{"facts": 1}'])
def test_a_corrupt_header_is_built_again(tmp_path: Path, header: str) -> None:
    cache = PlanCache(tmp_path)
    key = cache.get(FACTS, _build).key
    (tmp_path / f"{key}.json").write_text(header)
    assert not cache.get(FACTS, _build).hit


def test_a_foreign_plan_is_built_again(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    path = tmp_path / f"{cache.get(FACTS, _build).key}.json"
    header = json.loads(path.read_text())
    header["facts"]["gpu"] = "Tesla P40"
    path.write_text(json.dumps(header))
    assert not cache.get(FACTS, _build).hit


def test_what_building_raises_passes_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="built again"):
        PlanCache(tmp_path).get(FACTS, _never)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".lock"}


def test_many_at_once_build_one(tmp_path: Path) -> None:
    built = []

    def build() -> Built:
        built.append(1)
        return _build()

    with ThreadPoolExecutor(8) as pool:
        plans = list(pool.map(lambda _: PlanCache(tmp_path).get(FACTS, build), range(16)))
    assert len(built) == 1
    assert sum(plan.hit for plan in plans) == 15


def test_timing_caches_are_merged(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    assert cache.timing("gpu") == b""
    cache.learn("gpu", b"a", lambda ours, theirs: pytest.fail("nothing to merge"))
    cache.learn("gpu", b"b", lambda ours, theirs: theirs + ours)
    assert cache.timing("gpu") == b"ab"
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".gpu")] == []

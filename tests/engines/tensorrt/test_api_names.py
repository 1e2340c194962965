"""Every name of TensorRT that the room uses exists in 8.6, 10 and 11, but for those told here.

The listings under api/ were read from the Python modules themselves; they hold names only.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import raybench.engines.tensorrt as room
from raybench.engines.tensorrt.engine import _DTYPES

API = Path(__file__).parent / "api"
ROOM = Path(room.__file__).parent
LISTINGS = {
    version: {
        line
        for line in (API / f"trt{version}.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    }
    for version in (86, 10, 11)
}
ALL = frozenset(LISTINGS)

OBJECTS = {
    "builder.py": {
        "trt": "",
        "builder": "Builder",
        "network": "INetworkDefinition",
        "parser": "OnnxParser",
        "config": "IBuilderConfig",
        "profile": "IOptimizationProfile",
        "cache": "ITimingCache",
        "tensor": "ITensor",
        "error": "ParserError",
        "sources": "TacticSource",
        "kinds": "NetworkDefinitionCreationFlag",
    },
    "library.py": {"trt": "", "module": "", "kinds": "ILogger.Severity"},
    "engine.py": {
        "trt": "",
        "_trt": "",
        "engine": "ICudaEngine",
        "context": "IExecutionContext",
        "_runtime": "Runtime",
    },
    "runner.py": {"context": "IExecutionContext"},
    "profiles.py": {
        "trt": "",
        "engine": "ICudaEngine",
        "context": "IExecutionContext",
        "inspector": "EngineInspector",
    },
}
"""Class of the object behind each variable or attribute, by file."""

PYTHON = {"__name__", "__init__"}

SOME = {
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": {86, 10},
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": {10, 11},
    "ICudaEngine.device_memory_size": {86, 10},
    "ICudaEngine.device_memory_size_v2": {10, 11},
    "ParserError.node_name": {10, 11},
    "BuilderFlag.FP16": {86, 10},
    "BuilderFlag.INT8": {86, 10},
    "DataType.INT64": {10, 11},
    "PreviewFeature.PROFILE_SHARING_0806": {86, 10},
}
"""Names that some versions lack; the code asks for the version, or whether there is one."""

BY_TEXT = {
    "ICudaEngine.device_memory_size_v2",
    "ParserError.node_name",
    *(f"BuilderFlag.{name}" for name in ("FP16", "INT8", "TF32")),
    *(f"BuilderFlag.{name}" for name in ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME")),
    *(f"DataType.{name}" for name in _DTYPES),
}
"""Names that the code writes as text."""


def _owner(node: ast.expr, objects: dict[str, str]) -> str | None:
    """Class of the object that an expression is; None for what is not TensorRT's."""
    if isinstance(node, ast.Name):
        return objects.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    if isinstance(node.value, ast.Name) and node.value.id == "self":
        return objects.get(node.attr)
    above = _owner(node.value, objects)
    return None if above is None else f"{above}.{node.attr}".lstrip(".")


def used(name: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((ROOM / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            owner = _owner(node.value, OBJECTS[name])
            if owner is not None and node.attr not in PYTHON:
                found.add(f"{owner}.{node.attr}".lstrip("."))
    return found


@pytest.mark.parametrize("file", OBJECTS)
def test_names_exist_in_every_version(file: str) -> None:
    names = used(file)
    assert names
    for name in sorted(names):
        have = {version for version, listing in LISTINGS.items() if name in listing}
        assert have == SOME.get(name, ALL), f"{name} in {file}"


@pytest.mark.parametrize("name", sorted(BY_TEXT))
def test_names_written_as_text_exist(name: str) -> None:
    have = {version for version, listing in LISTINGS.items() if name in listing}
    assert have == SOME.get(name, ALL)


def test_no_other_file_of_the_room_touches_tensorrt() -> None:
    others = {path.name for path in ROOM.glob("*.py")} - set(OBJECTS)
    assert others == {"__init__.py", "cuda.py", "failures.py", "plans.py"}
    for name in others:
        assert "trt" not in (ROOM / name).read_text(encoding="utf-8")


def test_the_test_sees_the_calls_that_matter() -> None:
    assert "Builder.build_serialized_network" in used("builder.py")
    assert "IExecutionContext.execute_async_v3" in used("runner.py")
    assert "Runtime.deserialize_cuda_engine" in used("engine.py")
    assert "IExecutionContext.report_to_profiler" in used("profiles.py")
    assert "MemoryPoolType.WORKSPACE" in used("builder.py")
    assert "TensorIOMode.INPUT" in used("engine.py")

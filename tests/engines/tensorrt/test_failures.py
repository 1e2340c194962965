"""Failures: what the libraries say becomes the right error."""

from __future__ import annotations

import pickle

import pytest

from raybench.engines.tensorrt import failures
from raybench.errors import EngineFailure, OutOfMemory, Unsupported


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (
            "ERROR: Requested amount of GPU memory (2147483648 bytes) could not be allocated",
            1 << 31,
        ),
        ("WARNING: tactic skipped due to insufficient memory on requested size of 4096", 4096),
        ("ERROR: Out of memory error while finding fastest tactic", None),
        (
            "ERROR: [defaultAllocator.cpp::allocate] Error Code 1: Cuda Runtime (out of memory)",
            None,
        ),
    ],
)
def test_memory_is_read_from_the_log(line: str, asked: int | None) -> None:
    log = [line, "ERROR: Could not find any implementation for node conv1"]
    error = failures.of_library("build", log, "build a plan")
    assert isinstance(error, OutOfMemory)
    assert (error.stage, error.requested_bytes) == ("build", asked)


def test_a_known_number_of_bytes_wins_over_an_unknown_one() -> None:
    log = ["ERROR: Requested amount of GPU memory (7 bytes)", "ERROR: OutOfMemory"]
    error = failures.of_library("load", log, "load")
    assert isinstance(error, OutOfMemory)
    assert error.requested_bytes == 7


@pytest.mark.parametrize(
    "line",
    ["ERROR: volume exceeds 2147483647", "ERROR: SM 120 is not supported by this version"],
)
def test_limits_of_the_library_are_unsupported(line: str) -> None:
    assert isinstance(failures.of_library("build", [line], "build a plan"), Unsupported)


def test_other_words_are_kept() -> None:
    error = failures.of_library("build", ["ERROR: first", "WARNING: later"], "build a plan")
    assert type(error) is EngineFailure
    assert "ERROR: first" in str(error)
    assert "no reason" in str(failures.of_library("build", [], "build a plan"))


def test_cuda_codes() -> None:
    memory = failures.of_cuda("cudaMalloc", 2, "cudaErrorMemoryAllocation", "input", 99)
    assert isinstance(memory, OutOfMemory)
    assert (memory.stage, memory.requested_bytes) == ("input", 99)
    lost = failures.of_cuda("cudaEventSynchronize", 700, "cudaErrorIllegalAddress", "run", None)
    assert isinstance(lost, failures.DeviceLost)
    other = failures.of_cuda("cudaMemcpyAsync", 1, "cudaErrorInvalidValue", "run", None)
    assert type(other) is EngineFailure
    assert "cudaMemcpyAsync returned cudaErrorInvalidValue (1)" in str(other)


def test_errors_survive_the_way_to_the_driver() -> None:
    lost = failures.of_cuda("cudaFree", 719, "cudaErrorLaunchFailure", "run", None)
    again = pickle.loads(pickle.dumps(lost))
    assert isinstance(again, failures.DeviceLost)
    assert str(again) == str(lost)


def test_the_parsers_words_and_node() -> None:
    error = failures.of_parser(["No importer for op: Warp (node name: warp_7)"], [])
    assert "'warp_7'" in str(error)
    assert "Warp" in str(error)
    assert "no reason" in str(failures.of_parser([], []))


def test_a_node_without_a_kernel_is_unsupported_and_named() -> None:
    line = (
        "ERROR: Error Code 10: Internal Error (Could not find any implementation for node conv1.)"
    )
    error = failures.of_library("build", [line], "build a plan")
    assert isinstance(error, Unsupported)
    assert "conv1" in str(error)

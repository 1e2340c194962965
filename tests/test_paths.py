from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from raybench.paths import write_atomically

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_as_a_whole_and_nothing_else_is_left(
    tmp_path: Path, durable: bool
) -> None:
    path = tmp_path / "a" / "plan"
    path.parent.mkdir()
    path.write_bytes(b"old")
    write_atomically(path, b"new", durable)
    assert path.read_bytes() == b"new"
    write_atomically(path, memoryview(b"newer"), durable, temporary_dir=tmp_path)
    assert path.read_bytes() == b"newer"
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "plan"]


def test_an_interrupted_write_leaves_the_old_content_and_no_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan"
    path.write_bytes(b"old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new", durable=True)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("plan", b"old")]

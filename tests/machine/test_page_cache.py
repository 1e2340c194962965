"""Files taken out of the page cache and read into it, with what the kernel says of them."""

import os

import psutil
import pytest

from raybench.machine.page_cache import COLD_FRAC, drop, fill, resident_frac


def on_memory(path):
    """Whether the files of a folder exist in memory alone, or on a disk that keeps its own cache."""
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    parents = [str(each) for each in (path, *path.parents)]
    found = next((mounts[each] for each in parents if each in mounts), "")
    return found not in ("ext2", "ext3", "ext4", "xfs", "btrfs")


def test_dropped_files_are_out_of_the_page_cache_and_read_ones_in_it(tmp_path):
    if on_memory(tmp_path):
        pytest.skip("this file system has no page cache that can be dropped")
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_bytes(os.urandom(1 << 20))
    assert resident_frac(files) == 1.0
    drop(files)
    assert resident_frac(files) <= COLD_FRAC
    fill(files[:1])
    assert resident_frac(files) == pytest.approx(0.5)


def test_a_missing_file_and_no_file_have_no_known_state(tmp_path):
    missing = tmp_path / "none"
    drop([missing])
    fill([missing])
    assert resident_frac([missing]) is None
    assert resident_frac([]) is None
    (tmp_path / "empty").touch()
    assert resident_frac([tmp_path / "empty"]) is None

import threading
from types import SimpleNamespace

import pytest

from raybench.errors import ResultsError
from raybench.execute.rows import Tables
from raybench.execute.writer import Writer


class Disk:
    """A run and its view: writes when it may, fails from the `full`-th row on."""

    def __init__(self, full=None):
        self.may, self.full = threading.Event(), full
        self.written, self.announced = [], []

    def write_point(self, point_id, trial, **tables):
        assert self.may.wait(10)
        self.written.append(point_id)
        if self.full is not None and len(self.written) >= self.full:
            raise ResultsError("No space left on device.")

    def row(self, number, row):
        self.announced.append(number)


def put(writer, *numbers):
    for number in numbers:
        step = SimpleNamespace(point=SimpleNamespace(id=f"p{number}"), trial=0, number=number)
        writer.put(step, {"status": "ok"}, Tables({}))


def test_a_row_counts_when_it_is_on_the_disk_and_nobody_waits_for_it():
    disk = Disk()
    with Writer(disk, disk) as writer:
        put(writer, 1, 2, 3)
        assert not disk.announced
        assert not writer.tally
        disk.may.set()
    assert disk.announced == [1, 2, 3]
    assert writer.tally == {"ok": 3}


def test_a_full_disk_is_told_at_once_and_what_follows_is_still_given_to_the_run():
    disk, told = Disk(full=2), threading.Event()
    disk.may.set()

    def measure():
        with Writer(disk, disk) as writer:
            writer.failed = told.set
            put(writer, 1, 2)
            assert told.wait(10)
            put(writer, 3)
            writer.check()

    with pytest.raises(ResultsError, match="No space left"):
        measure()
    assert disk.written == ["p1", "p2", "p3"]  # the run keeps them elsewhere
    assert disk.announced == [1]


@pytest.mark.parametrize(("full", "raised"), [(None, KeyboardInterrupt), (1, ResultsError)])
def test_a_row_that_could_not_be_written_is_told_of_whatever_ended_the_run(full, raised):
    disk = Disk(full)
    disk.may.set()

    def interrupted():
        with Writer(disk, disk) as writer:
            put(writer, 1)
            raise KeyboardInterrupt

    with pytest.raises(raised):
        interrupted()
    assert disk.written == ["p1"]

import threading
from types import SimpleNamespace

import pytest

from raybench.errors import ResultsError
from raybench.execute.events import Ticked, TrialStarted
from raybench.execute.rows import Tables
from raybench.execute.stop_request import StopRequest
from raybench.execute.writer import Writer


class Disk:
    """A run of the store that writes when it may and fails from the `full`-th row on."""

    def __init__(self, full=None):
        self.may_write, self.full = threading.Event(), full
        self.written, self.announced = [], []

    def write_point(self, point_id, trial, **tables):
        assert self.may_write.wait(300)
        self.written.append(point_id)
        if self.full is not None and len(self.written) >= self.full:
            raise ResultsError("No space left on device.")

    def on_event(self, event):
        if not isinstance(event, Ticked):
            self.announced.append(event.planned.number)


def planned(number):
    return SimpleNamespace(point=SimpleNamespace(id=f"p{number}"), trial=0, number=number)


def put(writer, *numbers):
    for number in numbers:
        writer.put(planned(number), {"status": "ok"}, Tables({}))


def test_a_row_counts_when_it_is_on_the_disk_and_nobody_waits_for_it():
    disk = Disk()
    with Writer(disk, disk.on_event, StopRequest()) as writer:
        put(writer, 1, 2, 3)
        assert not disk.announced
        assert not writer.tally
        disk.may_write.set()
    assert disk.announced == [1, 2, 3]
    assert writer.tally == {"ok": 3}


def test_a_result_is_announced_before_the_start_that_follows_it_however_slow_the_disk():
    disk = Disk()
    with Writer(disk, disk.on_event, StopRequest()) as writer:
        put(writer, 1)
        writer.announce(TrialStarted(planned(2)))  # returns while the disk is still at work
        put(writer, 2)
        writer.announce(TrialStarted(planned(3)))
        assert not disk.announced
        disk.may_write.set()
    assert disk.announced == [1, 2, 2, 3]


def test_a_listener_that_fails_ends_the_run_with_its_error():
    def on_event(event):
        raise BrokenPipeError

    stop, stopped = StopRequest(), threading.Event()
    stop.listen(stopped.set)

    def announce():
        with Writer(Disk(), on_event, stop) as writer:
            writer.announce(TrialStarted(planned(1)))
            assert stopped.wait(300)

    with pytest.raises(BrokenPipeError):
        announce()


def test_a_full_disk_stops_the_run_and_later_rows_are_still_given_to_the_store():
    disk, stop, stopped = Disk(full=2), StopRequest(), threading.Event()
    disk.may_write.set()
    stop.listen(stopped.set)

    def measure():
        with Writer(disk, disk.on_event, stop) as writer:
            put(writer, 1, 2)
            assert stopped.wait(300)
            put(writer, 3)
            stop.check()

    with pytest.raises(ResultsError, match="No space left"):
        measure()
    assert disk.written == ["p1", "p2", "p3"]  # the store saves them elsewhere
    assert disk.announced == [1]


@pytest.mark.parametrize(("full", "raised"), [(None, KeyboardInterrupt), (1, ResultsError)])
def test_a_row_that_could_not_be_written_is_reported_whatever_ended_the_run(full, raised):
    disk = Disk(full)
    disk.may_write.set()

    def interrupted():
        with Writer(disk, disk.on_event, StopRequest()) as writer:
            put(writer, 1)
            raise KeyboardInterrupt

    with pytest.raises(raised):
        interrupted()
    assert disk.written == ["p1"]

import queue
import socket
import time

import pytest

from raybench.cluster import head_watch
from raybench.errors import HeadLost, UsageError


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(head_watch, "CHECK_S", 0.02)
    monkeypatch.setattr(head_watch, "GONE_S", 0.1)


def test_a_head_that_goes_away_is_reported_once_and_is_no_error_of_the_user(impatient):
    head = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{head.getsockname()[1]}"
    reports = queue.SimpleQueue()
    with head_watch.watching(address, reports.put):
        time.sleep(0.2)
        assert reports.empty()
        head.close()
        error = reports.get(timeout=10)
        time.sleep(0.2)
        assert reports.empty()
    assert f"head node {address} went away. Finished rows are kept" in str(error)
    assert isinstance(error, HeadLost)
    assert not isinstance(error, UsageError)


def test_nothing_is_reported_after_the_run_or_of_an_unknown_head(impatient):
    reports = queue.SimpleQueue()
    with head_watch.watching("127.0.0.1:1", reports.put):
        pass
    with head_watch.watching("", reports.put):
        time.sleep(0.2)
    time.sleep(0.2)
    assert reports.empty()

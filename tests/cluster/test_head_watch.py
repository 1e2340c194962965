import queue
import socket
import threading
import time
import types

import pytest

from raybench.cluster import head_watch
from raybench.errors import HeadLost, UsageError


@pytest.fixture
def checks(monkeypatch):
    """The answers to a check every 20 ms, as they come; threads of the test have ended at its end."""
    answers, listens = [], head_watch._listens

    def noted(head):
        answers.append(listens(head))
        return answers[-1]

    monkeypatch.setattr(head_watch, "CHECK_S", 0.02)
    monkeypatch.setattr(head_watch, "_listens", noted)
    return answers


def watchers_end(before):
    for thread in set(threading.enumerate()) - before:
        thread.join(300)
        assert not thread.is_alive()


def test_a_head_that_goes_away_is_reported_once_and_is_no_error_of_the_user(checks, monkeypatch):
    monkeypatch.setattr(head_watch, "GONE_S", 0.1)
    head = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{head.getsockname()[1]}"
    reports, before = queue.SimpleQueue(), set(threading.enumerate())
    with head_watch.watching(address, reports.put):
        while len(checks) < 5 and reports.empty():
            time.sleep(0.01)
        assert all(checks)
        assert reports.empty()
        head.close()
        error = reports.get(timeout=300)
        watchers_end(before)
    assert reports.empty()
    assert f"head node {address} went away. Finished rows are kept" in str(error)
    assert isinstance(error, HeadLost)
    assert not isinstance(error, UsageError)


def test_nothing_is_reported_after_the_run_or_of_an_unknown_head(checks, monkeypatch):
    monkeypatch.setattr(head_watch, "GONE_S", 5)
    reports, before = queue.SimpleQueue(), set(threading.enumerate())
    with head_watch.watching("127.0.0.1:1", reports.put):
        pass
    watchers_end(before)
    with head_watch.watching("", reports.put):
        assert set(threading.enumerate()) <= before
    assert reports.empty()


def test_a_process_that_stood_still_itself_does_not_take_its_head_for_lost(monkeypatch):
    now = [0.0]
    answers = iter([True, False, True])
    reports, ended = [], threading.Event()

    def listens(head):
        now[0] += 60  # this process was stopped meanwhile
        answer = next(answers, None)
        if answer is None:
            ended.set()
        return answer is not False

    monkeypatch.setattr(head_watch, "CHECK_S", 0)
    monkeypatch.setattr(head_watch, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(head_watch, "_listens", listens)
    head_watch._watch("head:1", reports.append, ended)
    assert reports == []

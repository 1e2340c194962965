"""Power limits of boards, set and restored by real processes against a driver that is a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers.limited_boards import UUID, Driver

from raybench.machine import board_power
from raybench.machine.board_power import BoardLock


@pytest.fixture
def driver(tmp_path, monkeypatch):
    driver = Driver(tmp_path, monkeypatch)
    yield driver
    driver.close()


def said(process):
    return json.loads(process.stdout.readline())


def limited(driver):
    """A worker that has set its board to 400 W."""
    worker = driver.worker(400)
    assert said(worker) == {"watts": 400.0}
    return worker


def kill_with_guard(driver, worker):
    """Kill the guard first, so that nobody restores the limit."""
    (guard,) = driver.guards()
    guard.kill()
    guard.wait()
    worker.kill()


def test_a_limit_is_read_back_and_restored_when_the_worker_is_done(driver):
    worker = limited(driver)
    assert driver.watts == 400
    worker.stdin.write("\n")
    worker.stdin.flush()
    assert said(worker) == {"wrong": []}
    assert driver.watts == 700  # by then, and not only soon
    assert driver.restored() == 700


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_limit_is_restored_however_the_worker_ends(driver, number):
    worker = limited(driver)
    worker.send_signal(number)
    worker.wait()
    assert driver.restored() == 700


def test_the_guard_is_no_child_of_the_worker_and_not_in_its_session(driver):
    worker = limited(driver)
    (guard,) = driver.guards()
    assert guard.ppid() != worker.pid
    assert os.getsid(guard.pid) != os.getsid(worker.pid)
    assert guard.cwd() == "/"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_guard_that_is_asked_to_end_restores_the_limit(driver, number):
    limited(driver)
    (guard,) = driver.guards()
    guard.send_signal(number)
    assert driver.restored() == 700


def test_the_next_guard_waits_until_the_former_has_restored(driver):
    first = driver.worker(400)
    assert said(first) == {"watts": 400.0}
    second = driver.worker(300)
    time.sleep(0.2)
    assert driver.watts == 400
    first.kill()
    assert said(second) == {"watts": 300.0}
    second.kill()
    second.wait()
    assert driver.restored() == 700
    assert driver.state["log"] == [400_000, 700_000, 300_000, 700_000]


def test_boards_do_not_wait_for_one_another(driver):
    first, other = driver.worker(400), driver.worker(300, uuid="GPU-1")
    assert said(first) == {"watts": 400.0}
    assert said(other) == {"watts": 300.0}


def test_other_workers_on_the_board_wait_for_the_first_and_set_nothing(driver):
    other = driver.worker(400, "next")
    first = driver.worker(400)
    assert said(other) == said(first) == {"watts": 400.0}
    assert driver.state["log"] == [400_000]
    other.kill()
    other.wait()
    assert driver.watts == 400


def test_a_limit_that_a_killed_guard_left_is_restored_by_the_next(driver):
    worker = limited(driver)
    kill_with_guard(driver, worker)
    assert driver.watts == 400
    following = driver.worker(300)
    assert said(following) == {"watts": 300.0}
    following.kill()
    following.wait()
    assert driver.restored() == 700


def test_a_limit_that_somebody_set_meanwhile_is_kept(driver):
    worker = limited(driver)
    kill_with_guard(driver, worker)
    driver.set(limits={UUID: 650_000, "GPU-1": 700_000})
    following = driver.worker(300)
    assert said(following) == {"watts": 300.0}
    following.kill()
    following.wait()
    assert driver.restored() == 650


def test_a_board_that_keeps_to_another_limit_is_no_point_and_is_restored(driver):
    driver.set(cap=350_000)
    error = said(driver.worker(400))["error"]
    assert "set to 400 W and 350 W is read back" in error
    assert driver.restored() == 700


def test_a_driver_that_refuses_is_quoted_and_nothing_is_changed(driver):
    driver.set(refuses="Insufficient Permissions")
    error = said(driver.worker(400))["error"]
    assert "could not be set to 400 W" in error
    assert "Insufficient Permissions" in error
    assert driver.restored() == 700
    assert driver.state["log"] == []


def test_a_limit_that_cannot_be_restored_is_said_and_the_next_guard_restores_it(driver):
    worker = limited(driver)
    driver.set(refuses="GPU is lost")
    worker.stdin.write("\n")
    worker.stdin.flush()
    (sentence,) = said(worker)["wrong"]
    assert "700 W could not be restored: GPU is lost" in sentence
    driver.set(refuses="")
    following = driver.worker(300)
    assert said(following) == {"watts": 300.0}
    following.kill()
    following.wait()
    assert driver.restored() == 700


def test_a_board_is_asked_for_permission_by_setting_what_is_set(driver, tmp_path):
    script = (
        "from raybench.machine import board_power; import dataclasses, json;"
        f"board_power._FOLDER = {driver.locks!r};"
        "print(json.dumps([dataclasses.asdict(b) for b in board_power.boards()]))"
    )

    def boards():
        return json.loads(subprocess.check_output([sys.executable, "-c", script]))

    first, _ = boards()
    assert (first["limit_w"], first["lowest_w"], first["highest_w"]) == (700, 200, 700)
    assert first["refusal"] is None
    assert driver.state["log"] == [700_000, 700_000]
    driver.set(refuses="Insufficient Permissions")
    assert boards()[0]["refusal"] == "Insufficient Permissions"
    driver.set(mig=True)
    assert all(board["mig"] for board in boards())


def test_a_lock_is_held_by_one_and_notes_are_kept(tmp_path):
    folder = str(tmp_path / "locks")
    with BoardLock(UUID, folder) as held, BoardLock(UUID, folder) as other:
        assert held.taken
        assert not other.taken
        held.note(700_000, 400_000)
        assert other.noted() == {"former": 700_000, "set": 400_000}
    with BoardLock(UUID, folder) as again:
        assert again.taken
        again.forget()
        assert again.noted() == {}


def test_without_a_driver_there_is_no_limit(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert board_power.boards() == ()
    assert board_power.read_w(UUID) is None

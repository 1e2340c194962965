"""Two drivers on one results folder: who measures what."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from helpers.processes import killed_at_the_end

from raybench.errors import ResultsError
from raybench.results import leases
from raybench.results.load import load
from raybench.results.store import Store

ALL = {("p1", 0), ("p1", 1), ("p2", 0)}
ELSEWHERE = ("another boot/pid:[1]", "17")
"""A process of another machine."""
CLAIMS = """
import sys, time
from raybench.results.store import Store
with Store(sys.argv[1]).claim("e1", {("p1", 0)}):
    print("held", flush=True)
    time.sleep(600)
"""


def held_elsewhere(store, run_id="0" * 26, age_s=0.0):
    """Write the lease of a driver on another machine, renewed so long ago."""
    with store.claim("e1", {("p1", 0)}) as lease:
        facts = json.loads(store.files.read(f"{leases.FOLDER}/{lease.lease.run_id}.json"))
    facts |= {"run_id": run_id, "process": ELSEWHERE, "host": "far", "pid": 7}
    store.files.write(f"{leases.FOLDER}/{run_id}.json", json.dumps(facts).encode())
    renewed_s = time.time() - age_s
    os.utime(f"{store.files.base}/{leases.FOLDER}/{run_id}.json", (renewed_s, renewed_s))


def test_a_second_driver_takes_what_the_first_does_not_and_says_who_is_at_work(store):
    with store.claim("e1", ALL) as first:
        first.keep({("p1", 0)})
        with store.claim("e1", ALL) as second:
            assert second.lease.trials == ALL - {("p1", 0)}
            who = second.others["p1", 0]
            assert who.run_id == first.lease.run_id
            assert f"process {os.getpid()} on " in str(who)
    with store.claim("e1", ALL) as third:
        assert third.lease.trials == ALL


def test_rows_of_another_environment_are_another_measurement(store):
    with store.claim("e1", ALL), store.claim("e2", ALL) as second:
        assert second.lease.trials == ALL


def test_nothing_is_left_and_readers_of_rows_see_no_lease(store, root, write):
    write(store.start_run({}))
    with store.claim("e1", ALL):
        assert load(root).num_rows == 1
        assert store.files.names() == sorted(store.files.names())
        assert leases.FOLDER not in store.files.names()
    assert not (root / leases.FOLDER).exists()


def test_a_killed_driver_loses_its_lease_at_once_and_its_run_was_interrupted(store, root):
    with (
        subprocess.Popen(
            [sys.executable, "-c", CLAIMS, str(root)], stdout=subprocess.PIPE, text=True
        ) as process,
        killed_at_the_end(process),
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        (other,) = leases.at_work(store.files)
        store.start_run({}, other.run_id)
        process.send_signal(signal.SIGKILL)
    assert leases.dead(store.files) == [other]
    with store.claim("e1", {("p1", 0)}) as lease:
        assert not lease.others
    assert json.loads((root / f"runs/{other.run_id}/manifest.json").read_text())["state"] == (
        "interrupted"
    )


@pytest.mark.parametrize(("age_s", "counts"), [(1.0, True), (leases.EXPIRY_S + 5, False)])
def test_a_lease_of_another_machine_counts_as_long_as_it_is_renewed(store, age_s, counts):
    held_elsewhere(store, age_s=age_s)
    with store.claim("e1", {("p1", 0)}) as lease:
        assert bool(lease.others) is counts


def test_the_clocks_of_machines_do_not_matter(store, monkeypatch):
    held_elsewhere(store)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert len(leases.at_work(store.files)) == 1


def test_a_lease_is_renewed_and_written_again_when_it_was_removed(store, root, monkeypatch):
    monkeypatch.setattr(leases, "RENEWAL_S", 0.01)
    with store.claim("e1", ALL) as lease:
        file = root / leases.FOLDER / f"{lease.lease.run_id}.json"
        os.utime(file, (1, 1))
        wait_for(lambda: file.stat().st_mtime > 1)
        file.unlink()
        wait_for(file.exists)


def test_a_driver_that_stood_still_hears_that_another_took_its_trials(store, root, monkeypatch):
    heard = []
    with store.claim("e1", {("p1", 0)}) as lease:
        lease.on_lost = heard.append
        (root / leases.FOLDER / f"{lease.lease.run_id}.json").unlink()
        other = store.claim("e1", {("p1", 0)})
        lease._renew_once()
        assert isinstance(heard[0], ResultsError)
        assert other.lease.run_id in str(heard[0])
        with other:
            pass


def test_a_lease_that_cannot_be_read_stops_nobody(store):
    store.files.write(f"{leases.FOLDER}/torn.json", b"{")
    with store.claim("e1", ALL) as lease:
        assert lease.lease.trials == ALL


def test_of_two_that_start_together_without_locks_the_earlier_keeps_the_trials(store, monkeypatch):
    monkeypatch.setattr(leases, "Folder", ())  # as an object store, which has no locks
    monkeypatch.setattr(leases, "SETTLE_S", 0.01)
    first, second = store.claim("e1", ALL), store.claim("e1", ALL)
    leases._write(store.files, first.lease)
    leases._write(store.files, replace(second.lease, trials=frozenset(ALL)))
    second.lease = replace(second.lease, trials=frozenset(ALL))
    first.keep(ALL)
    second.keep(ALL)
    assert first.lease.trials == ALL
    assert not second.lease.trials
    for lease in (first, second):
        with lease:
            pass


def wait_for(true):
    deadline = time.monotonic() + 300
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def test_many_drivers_that_start_together_share_the_trials(root):
    Store(root)
    code = (
        "import sys; from raybench.results.store import Store\n"
        "with Store(sys.argv[1]).claim('e1', {(f'p{n}', 0) for n in range(5)}) as lease:\n"
        "    print(len(lease.lease.trials), flush=True); sys.stdin.read()"
    )
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    shares = [int(driver.stdout.readline()) for driver in drivers]
    for driver in drivers:
        driver.communicate("")
    assert sorted(shares) == [0, 0, 5]


def test_a_process_that_has_ended_and_was_not_waited_for_is_not_at_work():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie from here on
        assert leases._start(process.pid) == ""


def test_a_lease_that_was_removed_at_the_end_is_not_written_again(store, root):
    with store.claim("e1", ALL) as lease:
        pass
    lease._renew_once()
    assert not (root / leases.FOLDER).exists()

"""Cores that feed a device: apart from those of engines as long as there are any, and said where not."""

from __future__ import annotations

import pytest

from raybench.errors import Infeasible
from raybench.machine import cgroup, devices, feeding_cores, sysfs
from raybench.machine.devices import Device


@pytest.fixture
def node(monkeypatch):
    """Make the node one of so many cores, of two logical CPUs each: core k has k and k + 100."""
    monkeypatch.setattr(
        sysfs, "core_siblings", lambda cpu, root=None: frozenset({cpu % 100, cpu % 100 + 100})
    )
    monkeypatch.setattr(cgroup, "limits", lambda: cgroup.GroupLimits())
    return lambda cores: [cpu for core in range(cores) for cpu in (core, core + 100)]


def core(number):
    return Device("cpu", "CPU", number, None, str(number), cpus=(number,))


def gpu(cpus):
    return Device("gpu", "H200", 0, "GPU-0", "0", cpus=tuple(cpus))


@pytest.fixture
def shares(monkeypatch):
    """Let the node's GPUs have these CPUs."""
    return lambda *cpus: monkeypatch.setattr(
        devices, "gpu_shares", lambda allowed: tuple(map(tuple, cpus))
    )


def chosen(device, cores, part, parts, allowed):
    return feeding_cores.feeding_cores(device, cores, part, parts, allowed)


@pytest.mark.parametrize(("workers", "cores"), [(1, 7), (2, 3), (4, 1)])
def test_cores_of_workers_and_engines_are_disjoint(node, workers, cores):
    allowed = node(8)
    engines = devices.cores(allowed)[:workers]
    parts = [chosen(core(engines[k]), cores, k, workers, allowed) for k in range(workers)]
    used = [cpu % 100 for part in parts for cpu in part.cpus]
    assert len(used) == len(set(used)) == workers * cores
    assert not {cpu % 100 for cpu in engines} & set(used)
    assert all(part.notes == () for part in parts)
    assert [part.engine_cpus for part in parts] == [(cpu,) for cpu in engines]


def test_a_worker_alone_on_any_core_leaves_that_core_to_its_engine(node):
    allowed = node(4)
    for own in devices.cores(allowed):
        part = chosen(core(own), 3, 0, 1, allowed)
        assert own not in part.cpus
        assert part.notes == ()


def test_a_shared_core_is_said(node):
    part = chosen(core(devices.cores(node(2))[0]), 2, 0, 1, node(2))
    assert len({cpu % 100 for cpu in part.cpus}) == 2
    assert part.notes == (
        "The cores that decode are also those that an engine computes on: both slow each other down.",
    )


def test_too_few_cores_are_refused_with_numbers(node):
    with pytest.raises(Infeasible, match=r"cores=8 needs 8 cores to decode on, and the node has 4"):
        chosen(core(0), 8, 0, 1, node(4))
    with pytest.raises(Infeasible, match=r"cores=3 needs 3 cores for each of 2 workers .* has 4"):
        chosen(core(0), 3, 0, 2, node(4))
    assert feeding_cores.too_few(2, 2, 4) is None


def test_a_gpu_is_fed_from_its_own_share_and_the_loop_keeps_the_rest(node, shares):
    allowed = node(16)
    share = [cpu for cpu in allowed if cpu % 100 < 8]
    shares(share, [cpu for cpu in allowed if cpu % 100 >= 8])
    part = chosen(gpu(share), 5, 0, 2, allowed)
    assert {cpu % 100 for cpu in part.cpus} < set(range(8))
    assert not {cpu % 100 for cpu in part.cpus} & {cpu % 100 for cpu in part.engine_cpus}
    assert set(part.engine_cpus) <= set(share)
    assert part.notes == ()


@pytest.mark.parametrize(
    ("there", "sizes", "workers", "cores"),
    [
        (52, (6, 7, 6, 7, 6, 7, 6, 7), 4, 6),  # some have enough in their shares, others have not
        (20, (2, 3, 2, 3, 2, 3, 2, 3), 4, 2),
        (16, (8, 8), 2, 5),
    ],
)
def test_no_core_feeds_two_gpus(there, sizes, workers, cores, node, shares):
    allowed = node(there)
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    own = [
        [cpu for cpu in allowed if end - size <= cpu % 100 < end]
        for end, size in zip(ends, sizes, strict=True)
    ]
    shares(*own)
    parts = [chosen(gpu(own[k]), cores, k, workers, allowed) for k in range(workers)]
    used = [cpu % 100 for part in parts for cpu in part.cpus]
    assert len(used) == len(set(used)) == workers * cores


def test_gpus_that_share_all_cpus_are_fed_from_parts_of_them(node, shares):
    allowed = node(12)
    shares(*[allowed] * 8)
    parts = [chosen(gpu(allowed), 1, k, 8, allowed) for k in range(8)]
    assert len({cpu for part in parts for cpu in part.cpus}) == 8


def test_a_gpu_whose_share_is_too_small_is_fed_from_further_away(node, shares):
    allowed = node(16)
    own = [[cpu for cpu in allowed if cpu % 100 // 4 == k] for k in range(2)]
    shares(*own)
    parts = [chosen(gpu(share), 8, k, 2, allowed) for k, share in enumerate(own)]
    used = [cpu % 100 for part in parts for cpu in part.cpus]
    assert len(set(used)) == 16
    for part in parts:
        assert any("some that feed it are far" in note for note in part.notes)
    whole = chosen(gpu(()), 16, 0, 1, allowed)
    assert len(whole.cpus) == 16
    assert "that batches are submitted from" in whole.notes[0]

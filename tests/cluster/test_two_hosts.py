"""Two hosts in namespaces of this machine, where it allows them; benchmarks/two_hosts.py does more."""

import hosts
import pytest
import two_hosts

pytestmark = [pytest.mark.ray, pytest.mark.hosts, pytest.mark.slow]


def test_one_point_spans_two_hosts_and_a_cut_cable_costs_that_point_only():
    reason = hosts.missing()
    if reason is not None:
        pytest.skip(reason)
    with hosts.two_hosts() as both:
        for host in "ab":
            both.start(host, "--num-gpus=2", *(["--include-dashboard=false"] * (host == "a")))
        scene = two_hosts.Scene(both)
        two_hosts.both_hosts(scene)
        two_hosts.cut(scene)

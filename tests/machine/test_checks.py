import pytest

from raybench.machine.checks import system_issues

FAIR = {
    "device_index": 0, "gpu_uuid": "GPU-0", "persistence_mode": "on", "power_limit_w": 700.0,
    "power_limit_default_w": 700.0, "app_clock_sm_mhz": 1980.0, "max_clock_sm_mhz": 1980.0,
}  # fmt: skip


def issues(gpus=(), others=(), **arguments):
    arguments = {"nice": 0, "load": 0.1, "governors": ["performance"], **arguments}
    return [
        (h.what, h.fix) for h in system_issues(gpus, processes=lambda uuid: others, **arguments)
    ]


def test_a_quiet_machine_has_none():
    assert issues([FAIR]) == []
    assert issues([{"device_index": 0, "gpu_uuid": "GPU-0"}], others=None, governors=[]) == []


@pytest.mark.parametrize(
    ("arguments", "what", "fix"),
    [
        ({"nice": 15}, "niceness 15", "worker_niceness"),
        ({"load": 3.2}, "load average 3.2", "--sort=-pcpu"),
        ({"governors": ["powersave", "performance"]}, "governor powersave", "cpupower"),
        ({"gpus": [FAIR], "others": (7, 8)}, "process 7, 8", "--query-compute-apps"),
        ({"gpus": [{**FAIR, "persistence_mode": "off"}]}, "sleeps", "-i 0 -pm 1"),
        ({"gpus": [{**FAIR, "power_limit_w": 400.0}]}, "400 W of its 700 W", "-i 0 -pl 700"),
        ({"gpus": [{**FAIR, "app_clock_sm_mhz": 1200.0}]}, "1200 MHz of its 1980", "-i 0 -rac"),
    ],
)
def test_an_issue_comes_with_the_command_that_fixes_it(arguments, what, fix):
    ((what_it_says, command),) = issues(**arguments)
    assert what in what_it_says
    assert fix in command

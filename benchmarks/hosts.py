"""Make two Linux hosts on one machine for Ray: network namespaces joined by a cable.

Each host has its own address, host name, core and folder for Ray. The second one does not have
raybench's source: what its workers run must have come through Ray. Needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
PYTHON = Path(sys.executable)
HEAD = "10.213.7.1"
OTHER = "10.213.7.2"
PORT = 6379
HEALTH = (
    '{"worker_niceness":0,"health_check_initial_delay_ms":1000,"health_check_period_ms":1000,'
    '"health_check_timeout_ms":3000,"health_check_failure_threshold":3}'
)
"""A dead node is noticed within 12 s instead of a minute, and one that is only busy is not taken for dead."""


def missing() -> str | None:
    """Return why this machine cannot have a second host; None where it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "nsenter", "unshare", "taskset"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if len(os.sched_getaffinity(0)) < 2:
        return "two hosts need two cores"
    name = f"rbtry{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if done.returncode:
        return f"no network namespace can be made: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


class Hosts:
    """Two hosts, `a` with the head node and `b`; Ray runs on neither until `start`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"{HEAD}:{PORT}"
        self.variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "RAYBENCH_")) and name != "PYTHONPATH"
        } | {
            "PATH": f"{PYTHON.parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
        }
        self.cut = False
        self._net = {"a": f"rb{os.getpid()}a", "b": f"rb{os.getpid()}b"}
        self._cores = dict(zip("ab", sorted(os.sched_getaffinity(0)), strict=False))
        self._homes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Hosts:
        a, b = self._net["a"], self._net["b"]
        try:
            for net in (a, b):
                _do("ip", "netns", "add", net)
            _do("ip", "link", "add", a, "netns", a, "type", "veth", "peer", b, "netns", b)
            for net, address in ((a, HEAD), (b, OTHER)):
                _do("ip", "-n", net, "addr", "add", f"{address}/24", "dev", net)
                _do("ip", "-n", net, "link", "set", "lo", "up")
                _do("ip", "-n", net, "link", "set", net, "up")
            for host in "ab":
                self._homes[host] = self._start_namespaces(host)
            if self.run("b", "python", "-c", "import raybench.worker").returncode == 0:
                raise RuntimeError("raybench can be imported on the second host.")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_namespaces(self, host: str) -> subprocess.Popen[bytes]:
        """Start a process that keeps a host's namespaces: a name, a /tmp/ray, and on b no source."""
        for name in ("ray", "venv", "source"):
            (self.folder / host / name).mkdir(parents=True, exist_ok=True)
        names = self.folder / host / "names"
        names.write_text(f"127.0.0.1 localhost\n{HEAD} host-a HEAD\n{OTHER} host-b\n")
        words = [f"hostname host-{host}", "mkdir -p /tmp/ray"]
        words.append(f"mount --bind {names} /etc/hosts")
        words.append(f"mount --bind {self.folder}/{host}/ray /tmp/ray")
        if host == "b":
            venv = PYTHON.parent.parent
            words += [
                f"mount --bind {venv} {self.folder}/b/venv",
                f"mount --bind {ROOT} {self.folder}/b/source",
                f"mount -t tmpfs none {ROOT}",
                f"mkdir -p {venv}",
                f"mount --bind {self.folder}/b/venv {venv}",
            ]
        script = " && ".join([*words, "echo ready", "exec sleep infinity"])
        home = subprocess.Popen(
            ["ip", "netns", "exec", self._net[host], "unshare", "-m", "-u", "sh", "-c", script],
            stdout=subprocess.PIPE,
        )
        assert home.stdout is not None
        with home.stdout as output:
            ready = output.readline()
        if ready != b"ready\n":
            raise RuntimeError(f"Host {host} could not be set up.")
        return home

    def command(self, host: str, *words: str) -> list[str]:
        """Return a command line that runs on the host; `python` and `ray` are those of this venv."""
        program = str(PYTHON.parent / words[0]) if words[0] in ("python", "ray") else words[0]
        home = str(self._homes[host].pid)
        inside = ["nsenter", "-t", home, "-m", "-n", "-u", "--wd=/"]
        return [*inside, "taskset", "-c", str(self._cores[host]), program, *words[1:]]

    def process(self, host: str) -> int:
        """Return the id of a process in the host's namespaces."""
        return self._homes[host].pid

    def run(
        self, host: str, *words: str, timeout_s: float = 300, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host to its end."""
        return subprocess.run(
            self.command(host, *words),
            env=self.variables | variables,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def start(self, host: str, *words: str, **variables: str) -> None:
        """Start Ray on the host: the head on `a`, a node of it on `b`."""
        where = (
            [f"--address={self.address}", f"--node-ip-address={OTHER}"]
            if host == "b"
            else ["--head", f"--port={PORT}", f"--node-ip-address={HEAD}",
                  f"--system-config={HEALTH}"]
        )  # fmt: skip
        done = self.run(
            host, "ray", "start", *where, "--num-cpus=1", "--object-store-memory=80000000",
            "--disable-usage-stats", *words, timeout_s=120, **variables,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"ray start on host {host} failed: {done.stdout}{done.stderr}")

    def raybench(self, host: str, *words: str) -> list[str]:
        """Return the command line of raybench on the host."""
        return self.command(host, "python", "-m", "raybench", *words)

    def cable(self, state: str) -> None:
        """Cut the cable ("down") or repair it ("up")."""
        _do("ip", "-n", self._net["b"], "link", "set", self._net["b"], state)
        self.cut = state == "down"

    def __exit__(self, *exc: object) -> None:
        for net in self._net.values():
            self._end(net)
        for home in self._homes.values():
            home.wait()

    def _end(self, net: str) -> None:
        for _ in range(50):
            done = subprocess.run(["ip", "netns", "pids", net], capture_output=True, text=True)
            pids = done.stdout.split()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
            if not pids:
                break
            time.sleep(0.1)
        subprocess.run(["ip", "netns", "del", net], capture_output=True, check=False)


def _do(*words: str) -> None:
    subprocess.run(words, check=True)


@contextlib.contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Yield two hosts in a temporary folder, ended and removed at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="rb", ignore_cleanup_errors=True) as folder,
        Hosts(Path(folder)) as hosts,
    ):
        yield hosts

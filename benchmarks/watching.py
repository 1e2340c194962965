"""What can be watched of a run: its metrics in Prometheus, its workers in Ray's dashboard.

Two hosts (see hosts.py), each with one GPU whose readings are made up; a simulated point runs over
both. Prometheus scrapes with deploy/prometheus.yml, and every query of deploy/grafana.json must
give numbers. Headless Chromium photographs the pages Actors and Jobs into a folder.

    python benchmarks/watching.py [folder]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hosts import HEAD, ROOT, missing, two_hosts

if TYPE_CHECKING:
    from hosts import Hosts

READINGS = """
import sys
from fake_nvml import FakeNvml
sys.modules[__name__] = FakeNvml()
"""
"""A pynvml with GPUs that do not exist."""
PROMETHEUS = 9090
DASHBOARD = 8265
PAGES = {"jobs/01000000": (2600, "Task Table"), "actors": (800,), "jobs": (600,)}
"""Height of each picture, and what is clicked first: sections fold away and open."""
PATIENCE_S = 60.0


def fake_readings(hosts: Hosts) -> str:
    """A folder that makes every process with it on PYTHONPATH find a made-up GPU."""
    folder = hosts.folder / "readings"
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "helpers" / "fake_nvml.py", folder)
    (folder / "pynvml.py").write_text(READINGS)
    return str(folder)


def ask(hosts: Hosts, url: str) -> Any:
    """JSON from a server on the head's host."""
    words = (
        "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1]).read().decode())"
    )
    done = hosts.run("a", "python", "-c", words, url, timeout_s=30)
    return json.loads(done.stdout) if done.returncode == 0 else None


def queries() -> dict[str, str]:
    """Every query of the shipped dashboard, by the title of its panel."""
    shown = json.loads((ROOT / "deploy" / "grafana.json").read_text(encoding="utf-8"))
    return {
        panel["title"]: target["expr"].replace("$experiment", ".*")
        for panel in shown["panels"]
        for target in panel["targets"]
    }


def answered(hosts: Hosts) -> dict[str, int]:
    """How many series each query gives now."""
    found = {}
    for title, query in queries().items():
        reply = ask(hosts, f"http://127.0.0.1:{PROMETHEUS}/api/v1/query?query={quote(query)}")
        found[title] = len(reply["data"]["result"]) if reply else 0
    return found


def photograph(hosts: Hosts, page: str, folder: Path) -> Path:
    """A page of the dashboard as a picture."""
    picture = folder / f"{page.replace('/', '-')}.png"
    height, *clicks = PAGES[page]
    done = hosts.run(
        "a", "python", str(ROOT / "benchmarks" / "photograph.py"),
        f"http://{HEAD}:{DASHBOARD}/#/{page}", str(picture), "1800", str(height),
        *map(str, clicks), timeout_s=120,
    )  # fmt: skip
    if done.returncode:
        print(done.stderr.splitlines()[-1])
    return picture


def main() -> int:
    """Returns 0 when every query gives numbers, 1 when not, 77 when it cannot run here."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/watching").absolute()
    reason = missing()
    for tool in ("prometheus", "chromium"):
        reason = reason or (None if shutil.which(tool) else f"{tool} is not installed")
    if reason is not None:
        print(f"skipped: {reason}")
        return 77
    folder.mkdir(parents=True, exist_ok=True)
    with two_hosts() as hosts:
        readings = fake_readings(hosts)
        hosts.start("a", "--num-gpus=1", "--dashboard-host=0.0.0.0", PYTHONPATH=readings)
        hosts.start("b", "--num-gpus=1", PYTHONPATH=readings)
        shutil.copy(ROOT / "deploy" / "prometheus.yml", hosts.folder / "a")
        subprocess.Popen(
            hosts.command(
                "a", "prometheus", f"--config.file={hosts.folder}/a/prometheus.yml",
                f"--storage.tsdb.path={hosts.folder}/tsdb",
                f"--web.listen-address=127.0.0.1:{PROMETHEUS}",
            ),
            stderr=(folder / "prometheus.log").open("w"),
        )  # fmt: skip
        run = subprocess.Popen(
            hosts.raybench("a", "experiment=scaling", "engine=simulated", "engine.profile=p40",
                           "model=alexnet", "grid.workers=[2,9]", "preset=quick",
                           "measure.min_s=20", "measure.max_s=150", "measure.target=0.00001", "cluster.isolation=cluster",
                           f"cluster.address={hosts.address}",
                           f"results.dir={hosts.folder}/results"),
            env=hosts.variables | {"PYTHONPATH": f"{ROOT}:{readings}"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert run.stdout is not None
        for line in run.stdout:
            print(line, end="")
            if "on 2 GPUs" in line:
                break
        time.sleep(10)
        found: dict[str, int] = {}
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not all(found.values() or [0]):
            found = answered(hosts)
            time.sleep(2)
        for title, series in found.items():
            print(f"{series:3} series  {title}")
        for page in PAGES:
            print(f"picture     {photograph(hosts, page, folder)}")
        run.terminate()
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

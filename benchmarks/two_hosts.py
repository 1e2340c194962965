"""Run raybench on two hosts, from plain GPUs to a cut cable, and print the outcome of each step.

Runs as root on one machine: see hosts.py. Every step is a promise of docs/clusters.md; the first
one that does not hold ends the script with its output and exit code 1.

    python benchmarks/two_hosts.py [step ...]
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import onnx
from hosts import HEAD, ROOT, Hosts, missing, two_hosts

import raybench
from raybench.machine.devices import declared_gpu

sys.path.append(str(ROOT / "tests"))
from helpers.tiny_graphs import tiny_conv

if TYPE_CHECKING:
    from collections.abc import Callable

QUICK = ("preset=quick", "measure.min_s=3", "measure.max_s=5", "measure.look_s=1")
SIMULATED = ("experiment=scaling", "engine=simulated", "engine.profile=p40", "model=googlenet")

OFFERS = {
    host: ("--num-gpus=2", f"--labels=ray.io/accelerator-type={accelerator},rack={rack}")
    for host, accelerator, rack in (("a", "A100", "r1"), ("b", "H100", "r2"))
}
"""Devices and labels that each host declares to Ray."""


class Scene:
    """Two running hosts and a results folder for each step."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts

    def folder(self, step: str) -> str:
        """Return the results folder of a step."""
        return str(self.hosts.folder / "results" / step)

    def run(self, host: str, step: str, *words: str, code: int = 0, **variables: str) -> str:
        """Run raybench on a host and return its output; fail with it on another exit code."""
        began = time.monotonic()
        done = self.hosts.run(
            host,
            "python",
            "-m",
            "raybench",
            *words,
            f"results.dir={self.folder(step)}",
            **variables,
        )
        output = done.stdout + done.stderr
        expect(done.returncode == code, f"exit code {done.returncode} instead of {code}\n{output}")
        print(f"    {time.monotonic() - began:5.1f} s  raybench {' '.join(words)} on {host}")
        return output

    def repair(self) -> None:
        """Repair a cut cable and let the second host, which Ray has given up, join again."""
        if self.hosts.cut:
            self.hosts.cable("up")
            self.hosts.start("b", *OFFERS["b"])

    def rows(self, step: str, table: str = "trials") -> list[dict[str, Any]]:
        """Return the rows that a step stored."""
        rows: list[dict[str, Any]] = raybench.load(self.folder(step), table).to_pylist()
        return rows


def expect(true: bool, otherwise: str) -> None:
    """End the script unless a promise holds."""
    if not true:
        raise SystemExit(f"    does not hold: {otherwise}")


def gpus(scene: Scene) -> None:
    """Measure on one, two and all four declared GPUs of both hosts."""
    scene.run("a", "gpus", *SIMULATED, f"cluster.address={scene.hosts.address}", *QUICK)
    rows = {row["workers"]: row for row in scene.rows("gpus")}
    expect(sorted(rows) == [1, 2, 4], f"workers {sorted(rows)}")
    print(f"    4 workers: {rows[4]['items_per_s'] / rows[1]['items_per_s']:.2f} x one")


def both_hosts(scene: Scene) -> None:
    """Measure one point over both hosts with code that only the first one has."""
    scene.run(
        "a", "both", *SIMULATED, "grid.workers=4", f"cluster.address={scene.hosts.address}", *QUICK
    )
    (row,) = scene.rows("both")
    expect(row["status"] == "ok" and row["n_nodes"] == 2, f"{row}")
    workers = scene.rows("both", "workers")
    hosts = {worker["hostname"] for worker in workers}
    expect(hosts == {"host-a", "host-b"}, f"hosts {hosts}")
    found = {row["hostname"]: row["raybench_version"] for row in scene.rows("both", "environment")}
    expect(found == dict.fromkeys(hosts, raybench.__version__), f"versions {found}")


def common_start(scene: Scene) -> None:
    """Check the start and the clocks of the step before, which a busy machine may miss."""
    (row,), workers = scene.rows("both"), scene.rows("both", "workers")
    blocks = scene.rows("both", "blocks")
    starts = [
        min(b["t_start_ns"] for b in blocks if b["worker"] == worker["worker"])
        for worker in workers
    ]
    skew_ms = (max(starts) - min(starts)) / 1e6
    offsets = [round(worker["clock_offset_us"]) for worker in workers]
    bound_us = max(worker["clock_bound_us"] for worker in workers)
    print(f"    first blocks begin {skew_ms:.2f} ms apart; clocks {offsets} us, +- {bound_us:.0f}")
    expect(skew_ms < 50, f"{skew_ms:.1f} ms between the first blocks")
    expect(max(map(abs, offsets)) <= 2 * bound_us, "offsets on one machine's clock beyond bounds")
    expect("clock_skew" not in row["flags"], "clock_skew on one machine's clock")


def cores(scene: Scene) -> None:
    """Measure OpenVINO on a core of each host; the second builds its graph itself."""
    words = ("experiment=scaling", "engine=openvino", "model=alexnet", "batch_size=1")
    scene.run("a", "cores", *words, f"cluster.address={scene.hosts.address}", *QUICK)
    rows = {row["workers"]: row for row in scene.rows("cores")}
    expect(rows[2]["status"] == "ok" and rows[2]["n_nodes"] == 2, f"{rows[2]}")
    print(f"    {rows[1]['items_per_s']:.0f} items/s on one, {rows[2]['items_per_s']:.0f} on two")


def own_model(scene: Scene) -> None:
    """Measure a user's model, whose file only the first host has."""
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    path = folder / "two_hosts.onnx"
    onnx.save(tiny_conv(), path)
    words = (
        "experiment=smoke",
        f"model={path}",
        "engine=onnxruntime",
        "workers=2",
        "batch_size=64",
    )
    scene.run("a", "own", *words, f"cluster.address={scene.hosts.address}", *QUICK)
    (row,) = scene.rows("own")
    expect(row["status"] == "ok" and row["n_nodes"] == 2, f"{row}")


def spread(scene: Scene) -> None:
    """Check that two workers fill one host when packed, and use two when spread."""
    for placement, nodes in (("pack", 1), ("spread", 2)):
        scene.run(
            "a", placement, *SIMULATED, "grid.workers=2", f"cluster.placement={placement}",
            f"cluster.address={scene.hosts.address}", *QUICK,
        )  # fmt: skip
        (row,) = scene.rows(placement)
        expect(row["n_nodes"] == nodes, f"{placement} took {row['n_nodes']} nodes")


def generations(scene: Scene) -> None:
    """Measure two types of GPU by label, a series of each."""
    scene.run(
        "a", "generations", "experiment=generations", *SIMULATED[1:],
        f"cluster.address={scene.hosts.address}", *QUICK,
    )  # fmt: skip
    found = {(row["device"], row["precision"]) for row in scene.rows("generations")}
    expected = {(declared_gpu(name), p) for name in ("A100", "H100") for p in ("fp32", "int8")}
    expect(found == expected, f"{found}")
    hosts = {(w["device"], w["hostname"]) for w in scene.rows("generations", "workers")}
    expect(
        hosts == {(declared_gpu("A100"), "host-a"), (declared_gpu("H100"), "host-b")}, f"{hosts}"
    )


def refusals(scene: Scene) -> None:
    """Check that impossible requests are refused with one sentence within 5 s."""
    for words in (
        (f"cluster.address={HEAD}:6380",),
        (f"cluster.address={scene.hosts.address}", "accelerator=B200"),
        (f"cluster.address={scene.hosts.address}", "cluster.select={rack: r9}"),
        (f"cluster.address={scene.hosts.address}", "grid.workers=9"),
        (f"cluster.address=ray://{HEAD}:10001",),
    ):
        began = time.monotonic()
        output = scene.run("a", "refused", *SIMULATED, *words, code=2)
        took = time.monotonic() - began
        expect(len(output.splitlines()) == 1 and took < 5, f"{took:.1f} s: {output}")
        print(f"           {output.strip()}")


def other_host(scene: Scene) -> None:
    """Run the driver on the second host, from a copy of the source."""
    source = scene.hosts.folder / "b" / "source"
    scene.run("b", "other", *SIMULATED, "grid.workers=4", "cluster.address=auto", *QUICK,
              PYTHONPATH=str(source), RAY_ADDRESS=scene.hosts.address)  # fmt: skip
    (row,) = scene.rows("other")
    expect(row["status"] == "ok" and row["n_nodes"] == 2, f"{row}")


def job(scene: Scene) -> None:
    """Run it as a Ray job by the shipped recipe, without an address."""
    began = time.monotonic()
    done = scene.hosts.run(
        "a", str(ROOT / "deploy" / "job.sh"), f"http://{HEAD}:8265",
        *SIMULATED, "grid.workers=4", *QUICK,
        f"results.dir={scene.folder('job')}",
    )  # fmt: skip
    output = done.stdout + done.stderr
    expect(done.returncode == 0, output)
    print(f"    {time.monotonic() - began:5.1f} s  deploy/job.sh")
    (row,) = scene.rows("job")
    expect(row["n_nodes"] == 2, f"{row}")


LONG = (
    *("preset=quick", "measure.min_s=12", "measure.max_s=18", "measure.look_s=1"),
    "measure.target=0.0001",
)
INTO_THE_STREAM_S = 7


def cable_cut(scene: Scene, step: str, loss: str, *words: str) -> tuple[str, int]:
    """Run on both hosts, cut the cable during the first point; return the output and the exit code.

    Args:
        scene: two hosts whose cable is whole.
        step: names the folder of the rows.
        loss: text of the line that reports the loss.
        words: further arguments of the command.
    """
    run = subprocess.Popen(
        scene.hosts.raybench(
            "a", *SIMULATED, *LONG, *words, f"cluster.address={scene.hosts.address}",
            f"results.dir={scene.folder(step)}",
        ),
        env=scene.hosts.variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert run.stdout is not None
    output = []
    with run.stdout as lines:
        for line in lines:
            output.append(line)
            if line.startswith("[1/"):
                break
        time.sleep(INTO_THE_STREAM_S)
        scene.hosts.cable("down")
        began, took = time.monotonic(), None
        for line in lines:
            output.append(line)
            if loss in line and took is None:
                took = time.monotonic() - began
    code = run.wait()
    expect(took is not None, "".join(output))
    print(f"    {took:5.1f} s  from the cut to the line that reports it")
    for row in scene.rows(step):
        status = f"{row['status']} in attempt {row['attempts']}"
        print(f"    {row['workers']} workers: {status}: {row['reason'] or 'measured'}")
    return "".join(output), code


def cut(scene: Scene) -> None:
    """Cut the cable in the middle of a point: it fails, the grid ends with exit code 1."""
    grid = ("grid.workers=[4,2]", "order=grid", "cluster.isolation=cluster")
    output, code = cable_cut(scene, "cut", "node_died", *grid)
    rows = {row["workers"]: row for row in scene.rows("cut")}
    expect(rows[4]["status"] == "node_died", output)
    expect(rows[2]["status"] == "ok", output)
    expect(code == 1, output)


def retry(scene: Scene) -> None:
    """Cut the cable under a point that the other host can measure: exit code 0."""
    scene.repair()
    grid = ("grid.workers=2", "cluster.placement=spread", "cluster.retries=1")
    output, code = cable_cut(scene, "retry", "tried again", *grid)
    (row,) = scene.rows("retry")
    expect((row["status"], row["attempts"], row["n_nodes"]) == ("ok", 2, 1), output)
    expect({worker["hostname"] for worker in scene.rows("retry", "workers")} == {"host-a"}, output)
    expect(code == 0, output)


SRUN = """#!/usr/bin/env bash
# srun for two hosts: --nodelist=N runs on N, --exclude=N on the other
host=host-b
while [[ $1 == --* ]]; do
  case $1 in
    --nodelist=*) host=${1#*=} ;;
    --exclude=host-b) host=host-a ;;
  esac
  shift
done
declare -A home=([host-a]=%d [host-b]=%d)
exec nsenter -t "${home[$host]}" -m -n -u --wd=/ "$@"
"""
SCONTROL = "#!/bin/sh\necho host-a\necho host-b\n"


def slurm(scene: Scene) -> None:
    """Run the script for Slurm with a fake srun for the two hosts; it starts Ray itself."""
    hosts = scene.hosts
    tools = hosts.folder / "slurm"
    tools.mkdir()
    (tools / "srun").write_text(SRUN % (hosts.process("a"), hosts.process("b")))
    (tools / "scontrol").write_text(SCONTROL)
    for tool in tools.iterdir():
        tool.chmod(0o755)
    began = time.monotonic()
    done = hosts.run(
        "a", "bash", str(ROOT / "deploy" / "slurm.sbatch"), *SIMULATED, "grid.workers=4", *QUICK,
        f"results.dir={scene.folder('slurm')}", timeout_s=150,
        PATH=f"{tools}:{hosts.variables['PATH']}", SLURM_JOB_NODELIST="host-[a-b]",
        SLURM_JOB_NUM_NODES="2", SLURM_CPUS_PER_TASK="1", SLURM_GPUS_ON_NODE="2",
    )  # fmt: skip
    expect(done.returncode == 0, done.stdout + done.stderr)
    (row,) = scene.rows("slurm")
    expect(row["status"] == "ok" and row["n_nodes"] == 2, f"{row}")
    print(f"    {time.monotonic() - began:5.1f} s  deploy/slurm.sbatch")


STEPS = (
    gpus,
    both_hosts,
    common_start,
    cores,
    own_model,
    spread,
    generations,
    refusals,
    other_host,
    job,
    cut,
    retry,
)


def main() -> int:
    """Run the steps that were named, or all; 77 when this machine cannot have two hosts."""
    reason = missing()
    if reason is not None:
        print(f"skipped: {reason}")
        return 77
    named = sys.argv[1:]
    began = time.monotonic()
    if not named or "slurm" in named:
        with two_hosts() as hosts:
            show(slurm, hosts)
    chosen = [step for step in STEPS if not named or step.__name__ in named]
    if chosen:
        with two_hosts() as hosts:
            hosts.start("a", *OFFERS["a"], "--dashboard-host=0.0.0.0")
            hosts.start("b", *OFFERS["b"])
            for step in chosen:
                show(step, hosts)
    print(f"all hold, {time.monotonic() - began:.0f} s")
    return 0


def show(step: Callable[[Scene], None], hosts: Hosts) -> None:
    """Print what a step checks and run it."""
    print(f"{step.__name__}: {(step.__doc__ or '').strip()}", flush=True)
    step(Scene(hosts))


if __name__ == "__main__":
    sys.exit(main())

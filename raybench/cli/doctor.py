"""`raybench doctor`: shows what this machine or a cluster can measure, and what biases it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from raybench.analysis.series import device_name
from raybench.cli.arguments import parse
from raybench.cluster import nodes, preflight
from raybench.cluster import session as sessions
from raybench.config.settings import ClusterSettings
from raybench.engines import registry
from raybench.errors import ConfigError, EngineUnavailable
from raybench.machine import checks, devices, gpu_telemetry, nvml
from raybench.report.terminal.console import (
    lines_of,
    open_console,
    print_line,
    print_rendered,
    words,
)
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.text import Text

    from raybench.cluster.node_facts import NodeFacts

LIBRARIES = ("openvino", "onnxruntime", "tensorrt", "tensorrt_rtx", "torch")
VERSIONS = ("raybench", "python", "ray", *LIBRARIES, "driver")
"""Columns of a cluster's table; a version that no node has is left out."""
NVIDIA = ("tensorrt", "tensorrt_rtx")
"""Engines that need NVIDIA's driver, which a GPU that the cluster declares may lack."""


def command(words: list[str]) -> int:
    """Print devices, versions, engines and warnings; of a cluster for each node.

    Args:
        words: none, or cluster.address=ADDRESS for a cluster; RAY_ADDRESS counts as well.

    Returns:
        0 when at least one engine that measures hardware can run, else 1.

    Raises:
        ConfigError: for any other word.
        ClusterError: when the cluster cannot be joined.
    """
    arguments = parse("doctor", words, ["cluster.address"])
    for word in arguments.positional:
        raise ConfigError(
            f"doctor takes no words but cluster.address=ADDRESS, not {word!r}. "
            "Write: raybench doctor"
        )
    default = ClusterSettings().address
    address = preflight.requested_address(arguments.options.get("cluster.address", default))
    console = open_console()
    if address is None:
        return _check_machine(console)
    with sessions.connect(address, {}, False) as session:
        return check_cluster(console, session, session.facts)


# ---------------------------------------------------------------- this machine


def _check_machine(console: Console) -> int:
    cores = devices.cores()
    gpus = nvml.inventory()
    facts = nodes.local_facts({"gpu": len(gpus), "cpu": len(cores)})
    host = facts.environment
    lines = [
        ("machine", f"{facts.hostname}, {host['os']}, kernel {host['kernel']}"),
        ("CPU", f"{devices.cpu_name()}, {devices.describe_cores()}"),
        ("memory", devices.describe_memory()),
        ("GPUs", ", ".join(gpu.name for gpu in gpus) or "none found"),
        *_gpu_lines([gpu.uuid for gpu in gpus]),
        *_version_lines(facts),
    ]
    able = False
    for name, missing in facts.missing.items():
        reason = missing
        if reason is None and name in NVIDIA and not gpus:
            reason = "needs an NVIDIA GPU and its driver, and there is none here."
            if getattr(registry.get(name), "builds_anywhere", False):
                reason += " Its plans can be built here: raybench build."
        able = able or (reason is None and name != "simulated")
        kinds = " or ".join(_device_kinds(name))
        lines.append((f"engine {name}", reason or f"ready, on {kinds}"))
    if (shown := devices.gpu_count()) < len(gpus):
        hidden = (
            f"CUDA_VISIBLE_DEVICES shows {shown} of {counted(len(gpus), 'GPU')}: no other is used."
        )
        lines += [("warning", hidden), ("fix", "unset it, if all are to be measured.")]
    lines += [("warning", clash) for clash in registry.clashes()]
    for issue in (*facts.system_issues, *checks.start_issues(len(gpus) + len(cores))):
        lines += [("warning", issue.what), ("fix", issue.fix)]
    if len(cores) < 2:
        lines.append(("warning", "with one core, Ray and the driver share it with the worker."))
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        print_line(console, f"{label:<{width}} {text}")
    return 0 if able else 1


def _gpu_lines(uuids: Sequence[str]) -> list[tuple[str, str]]:
    """Return what of the GPUs can be read beside a stream, and which of them is unwell."""
    found = {uuid: seen for uuid in uuids if (seen := gpu_telemetry.look(uuid)) is not None}
    if not found:
        return []
    counted = sum(has_counters for has_counters, _ in found.values())
    what = "use of multiprocessors, tensor cores, memory and PCIe (NVML GPM)"
    lacking = " (needs Hopper or later)" if counted < len(found) else ""
    lines = [("GPU counters", f"{what} on {counted} of {len(found)}{lacking}")]
    for uuid, (_, health) in found.items():
        if health.remap_pending:
            lines += [
                ("warning", f"rows of the memory of {uuid} wait to be replaced, or cannot be."),
                ("fix", "reset it (nvidia-smi --gpu-reset), and have it replaced if that fails."),
            ]
    return lines


def _version_lines(facts: NodeFacts) -> list[tuple[str, str]]:
    lines = []
    for name in ("python", "ray", "numpy", *LIBRARIES):
        # a library that was unpacked by hand has no metadata with its version
        present = facts.missing.get(name, "") is None
        unknown = "version unknown" if present else "not installed"
        lines.append((name, facts.environment.get(f"{name}_version") or unknown))
    return lines


# ---------------------------------------------------------------- a cluster


def check_cluster(console: Console, session: sessions.Session, facts: Sequence[NodeFacts]) -> int:
    """Print a table of the nodes and their warnings; return 0 when a node can measure, else 1."""
    print_rendered(console, _table(session, facts))
    for difference in nodes.differences(facts):
        print_line(console, f"differ   {difference}")
    for node in facts:
        for issue in node.system_issues:
            print_line(console, f"warning  {node.hostname}: {issue.what}")
            print_line(console, f"fix      {issue.fix}")
    for line in sessions.busy_devices(session):
        print_line(console, f"warning  {line}")
        print_line(console, "see      ray list actors --filter state=ALIVE --detail")
    return 0 if any(_ready_engines(node) for node in facts) else 1


def _table(session: sessions.Session, facts: Sequence[NodeFacts]) -> Table:
    versions = [v for v in VERSIONS if any(node.environment.get(f"{v}_version") for node in facts)]
    table = Table(box=SIMPLE_HEAD, header_style="bold")
    for name in ("node", "devices", "engines", *versions):
        table.add_column(name, overflow="fold")
    for node, node_facts in zip(session.nodes, facts, strict=True):
        table.add_row(
            words(node.hostname),
            _devices(node_facts),
            words(", ".join(_ready_engines(node_facts)) or "none"),
            *(words(node_facts.environment.get(f"{name}_version") or "-") for name in versions),
        )
    return table


def _devices(facts: NodeFacts) -> Text:
    names = [f"{count} x {device_name(name)}" for name, count in facts.products.items() if count]
    return lines_of(names or ["none"])


def _ready_engines(facts: NodeFacts) -> list[str]:
    """Return the engines that can measure hardware on a node."""
    return [
        name
        for name, missing in facts.missing.items()
        if missing is None
        and name != "simulated"
        and any(facts.devices.get(kind, 0) for kind in _device_kinds(name))
        and (name not in NVIDIA or facts.gpus)
    ]


def _device_kinds(name: str) -> tuple[str, ...]:
    """Return the kinds of device an engine runs on; none where it cannot be loaded in this process.

    A node may have a plug-in that is missing or broken here, where it could not be planned with.
    """
    try:
        return tuple(registry.get(name).traits.device_kinds)
    except (ConfigError, EngineUnavailable):
        return ()

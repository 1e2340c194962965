"""Row: what is stored of one trial of one point, whether it gave a number or not."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from raybench.engines import registry
from raybench.errors import OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from raybench.engines.base import Layer
    from raybench.errors import PointError
    from raybench.execute.workers import WorkerMember
    from raybench.experiment import Experiment, Point
    from raybench.measure.clock import Watched
    from raybench.measure.stream import Trace
    from raybench.measure.summary import Summary
    from raybench.planning.plan import PlannedTrial
    from raybench.worker import Prepared

Columns = dict[str, Any]


@dataclass(frozen=True)
class TrialWorkers:
    """Who measured: members of the pool, what they prepared, how their clocks went."""

    members: Sequence[WorkerMember]
    prepared: Sequence[Prepared]
    clocks: Sequence[Watched]

    @property
    def uneven(self) -> bool:
        """Whether the workers' devices or software differ."""
        kinds = {(p.device.name, tuple(sorted(p.software.items()))) for p in self.prepared}
        return len(kinds) > 1


@dataclass(frozen=True)
class Tables:
    """All rows of one trial, table by table; a trial without a number has only its own."""

    trial: Columns
    workers: Sequence[Columns] = ()
    blocks: Sequence[Columns] = ()
    samples: Sequence[Columns] = ()
    layers: Sequence[Columns] = ()


def identity(experiment: Experiment, step: PlannedTrial, environment_id: str) -> Columns:
    """Columns that are known before anything runs."""
    point = step.point
    return {
        "environment_id": environment_id,
        "experiment": experiment.name,
        "point_index": step.point_index,
        "config_json": json.dumps(asdict(point), sort_keys=True),
        "preset": point.preset,
        "seed": experiment.seed,
        **factors(point),
        "load_mode": "latency" if point.inflight == 1 else "stream",
        "scaling_mode": "weak",
        "memory_limit_bytes": point.memory_limit_bytes,
        "device_kind": point.device,
        "simulated": point.engine == "simulated",
    }


def factors(point: Point) -> Columns:
    """The axes of the point, as columns."""
    return {
        "model": point.model,
        "model_identity": point.model_identity,
        "precision": point.precision,
        "batch_size": point.batch_size,
        "workers": point.workers,
        "engine": point.engine,
        "engine_options": json.dumps(_chosen(point), sort_keys=True),
        "inflight": point.inflight,
        "transfers": point.transfers,
    }


def _chosen(point: Point) -> dict[str, Any]:
    """Options that differ from the engine's defaults."""
    usual = asdict(registry.get(point.engine).Settings())
    return {name: value for name, value in point.engine_options if usual.get(name) != value}


def outcome(
    began: datetime,
    ended: datetime,
    error: PointError | None = None,
    attempts: int = 0,
    reason: str | None = None,
) -> Columns:
    """When it ran and how it ended; a `reason` without an error is why it cannot run here."""
    status = "infeasible" if reason else "ok"
    memory = error if isinstance(error, OutOfMemory) else None
    return {
        "started_at": began,
        "ended_at": ended,
        "wall_s": (ended - began).total_seconds(),
        "attempts": attempts,
        "status": status if error is None else error.status,
        "reason": reason if error is None else str(error),
        "oom_stage": memory.stage if memory else None,
        "oom_requested_bytes": memory.requested_bytes if memory else None,
    }


def loaded(gang: TrialWorkers) -> Columns:
    """What the workers loaded, as columns of `trials`; the first worker speaks for all."""
    first = gang.prepared[0]
    names = {prepared.device.name for prepared in gang.prepared}
    nodes = Counter(member.node_id for member in gang.members)
    return {
        **_cold_start(first),
        "engine_version": first.engine.version,
        "model_sha256": first.model.sha256,
        "dialect": first.model.dialect,
        "parameters": first.model.parameters,
        "macs_per_item": first.model.macs_per_item,
        "input_shape": first.input_shape,
        "device": names.pop() if len(names) == 1 else "mixed",
        "n_nodes": len(nodes),
        "workers_per_node": max(nodes.values()),
        "simulated": first.engine.simulated,
        "nice": max(member.host.nice for member in gang.members),
        "notes": sorted({note for p in gang.prepared for note in p.engine.notes}),
        "fidelity_sqnr_db": first.fidelity.sqnr_db if first.fidelity else None,
        "fidelity_cosine": first.fidelity.cosine if first.fidelity else None,
        "clock_bound_us": max(clock.bound_ns for clock in gang.clocks) / 1e3,
        "clock_skew": max(clock.skew for clock in gang.clocks),
        "harness_us_per_batch": max(prepared.harness_us for prepared in gang.prepared),
    }


def measured(gang: TrialWorkers, summary: Summary) -> Columns:
    """What was measured, as columns of `trials`."""
    macs = gang.prepared[0].model.macs_per_item
    gflops = None if macs is None else 2 * macs / 1e9
    rate = summary.trial["items_per_s"]
    return {
        **summary.trial,
        "gflops_per_item": gflops,
        "achieved_tflops": None if gflops is None else rate * gflops / 1e3,
    }


def workers(gang: TrialWorkers, summary: Summary) -> list[Columns]:
    """One row a worker."""
    rows = []
    for rank, columns in enumerate(summary.workers):
        member, prepared, clock = gang.members[rank], gang.prepared[rank], gang.clocks[rank]
        device = prepared.device
        gpu = device.kind == "gpu"
        rows.append(
            {
                **columns,
                **_cold_start(prepared),
                "worker": rank,
                "node_id": member.node_id,
                "hostname": member.host.hostname,
                "device": device.name,
                "gpu_index": int(device.visible) if gpu and device.visible.isdigit() else None,
                "gpu_uuid": device.uuid,
                "gpu_name": device.name if gpu else None,
                "pci_bus_id": device.pci_bus_id,
                "numa_node": device.numa_node,
                "pid": member.host.pid,
                "cpu_affinity": prepared.affinity,
                "threads": prepared.engine.threads,
                "nice": member.host.nice,
                "env_allowlist": prepared.variables,
                "harness_us_per_batch": prepared.harness_us,
                "notes": list(prepared.engine.notes),
                "clock_offset_us": clock.before.offset_ns / 1e3,
                "clock_offset_end_us": clock.after.offset_ns / 1e3,
                "clock_rtt_us": clock.before.round_trip_ns / 1e3,
                "clock_bound_us": clock.bound_ns / 1e3,
                "clock_skew": clock.skew,
            }
        )
    return rows


def _cold_start(prepared: Prepared) -> Columns:
    engine = prepared.engine
    return {
        "build_s": engine.build_s,
        "build_cache_hit": engine.build_cache_hit,
        "load_s": engine.load_s,
        "first_infer_ms": prepared.first_infer_ms,
        "engine_bytes": engine.engine_bytes,
        "engine_sha256": engine.engine_sha256,
    }


def blocks(summary: Summary, start_ns: int) -> list[Columns]:
    """One row a worker and block, on the driver's clock."""
    return [
        {
            **row,
            "t_start_ns": row["t_start_ns"] + start_ns,
            "t_end_ns": row["t_end_ns"] + start_ns,
        }
        for row in summary.blocks
    ]


def samples(traces: Sequence[Trace]) -> list[Columns]:
    """One row a batch, warm-up included, on each worker's own clock."""
    return [
        {
            "worker": rank,
            "seq": seq,
            "t_done_ns": done,
            "latency_ns": done - submitted,
            "batch_items": trace.batch_size,
        }
        for rank, trace in enumerate(traces)
        for seq, (submitted, done) in enumerate(
            zip(trace.submit_ns.tolist(), trace.done_ns.tolist(), strict=True)
        )
    ]


def layers(found: Sequence[Layer]) -> list[Columns]:
    """One row a layer of the first worker's model, in order of execution."""
    total_ns = sum(layer.time_ns for layer in found)
    return [
        {
            "layer": index,
            "name": layer.name,
            "kind": layer.kind,
            "time_ms": layer.time_ns / 1e6,
            "time_frac": layer.time_ns / total_ns if total_ns else None,
            "info_json": layer.info_json,
        }
        for index, layer in enumerate(found)
    ]

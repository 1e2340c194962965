"""The rows of a trial: columns from what was planned, prepared, measured and judged."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from raybench.analysis.series import device_name
from raybench.engines import registry
from raybench.errors import OutOfMemory
from raybench.execute.cold_start_rows import cold_start_columns
from raybench.execute.traffic_rows import traffic_columns
from raybench.experiment import CLOSED, SYNTHETIC, OfferedLoad, parse_load
from raybench.measure import flags as flagging
from raybench.measure.evidence import TrialEvidence
from raybench.measure.output_bits import judge_outputs
from raybench.measure.telemetry_columns import simulated_energy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from raybench.errors import PointError
    from raybench.execute.stream_watch import StreamedTrial
    from raybench.execute.workers import WorkerMember
    from raybench.experiment import Experiment, Point
    from raybench.measure.clock import ClockDrift
    from raybench.measure.limits import Limits
    from raybench.measure.prepared import Prepared
    from raybench.measure.summary import Summary
    from raybench.planning.plan import PlannedTrial

Columns = dict[str, Any]


@dataclass(frozen=True)
class TrialWorkers:
    """The workers of a trial and the result of preparing each, by rank; so many share a device."""

    members: Sequence[WorkerMember]
    prepared: Sequence[Prepared]
    instances: int = 1

    @property
    def uneven(self) -> bool:
        """Whether the workers' devices, graphs or software differ."""
        kinds = {
            (p.device.name, p.model.dialect, tuple(sorted(p.software.items())))
            for p in self.prepared
        }
        return len(kinds) > 1

    @property
    def bit_kinds(self) -> list[Any]:
        """Return of each worker what must be equal for its outputs to have the same bits."""
        return [
            (p.device.name, p.engine.engine_sha256, p.engine.threads, *sorted(p.software.items()))
            for p in self.prepared
        ]

    @property
    def places(self) -> list[str]:
        """Return the host and the device of each worker, for people."""
        return [
            f"{member.host.hostname}, {device_name(prepared.device.name)}"
            for member, prepared in zip(self.members, self.prepared, strict=True)
        ]


@dataclass(frozen=True)
class Tables:
    """All rows of one trial, by table; a trial without a number has only that of `trials`.

    `ended_by` is what ended a soak before its time; the rows are then of what was measured by then.
    """

    trial: Columns
    workers: Sequence[Columns] = ()
    blocks: Sequence[Columns] = ()
    samples: Sequence[Columns] = ()
    layers: Sequence[Columns] = ()
    ended_by: PointError | None = None


def identity_columns(experiment: Experiment, planned: PlannedTrial, environment_id: str) -> Columns:
    """Return the columns that do not depend on the run of the trial."""
    point = planned.point
    return {
        "environment_id": environment_id,
        "experiment": experiment.name,
        "point_index": planned.point_index,
        "config_json": json.dumps(point.described(), sort_keys=True),
        "preset": point.preset,
        "seed": experiment.seed,
        **factor_columns(point),
        "load_mode": _load_mode(point),
        "scaling_mode": "weak",
        "memory_limit_bytes": point.memory_limit_bytes,
        "device_kind": point.device,
        "simulated": point.engine == "simulated",
        **({"tags": dict(experiment.tags)} if experiment.tags else {}),
    }


def factor_columns(point: Point) -> Columns:
    """Return the axes of the point as columns."""
    return {
        "model": point.model,
        "model_identity": point.model_identity,
        "precision": point.precision,
        "batch_size": point.batch_size,
        "workers": point.workers,
        "engine": point.engine,
        "engine_options": json.dumps(_changed_options(point), sort_keys=True),
        "inflight": point.inflight,
        "instances": point.instances,
        "transfers": point.transfers,
        "power_limit_w": point.power_limit_w,
        "prompt": point.prompt,
        "context": point.context,
        "new_tokens": point.new_tokens,
        "pipeline": point.pipeline,
        "cores": point.cores,
        "inputs": SYNTHETIC if point.inputs is None else str(point.inputs),
        "build": point.build if registry.get(point.engine).traits.builds_differ else None,
        "first_build_id": replace(point, build=0).id if point.build else point.id,
        **_load_columns(point),
    }


def _load_mode(point: Point) -> str:
    if point.load != CLOSED:
        return "open"
    return "latency" if point.inflight == 1 else "stream"


def _load_columns(point: Point) -> Columns:
    """Return the load as it was asked for; what came of it is measured."""
    load = parse_load(point.load) or OfferedLoad()
    columns = {"load": point.load, "arrivals": load.arrivals}
    if not load.is_open:
        return columns
    return {
        **columns,
        "offered_items_per_s": load.items_per_s,
        "balancer": point.measure.balancer,
        "max_wait_ms": point.measure.max_wait_ms,
    }


def _changed_options(point: Point) -> dict[str, Any]:
    """Return the options that differ from the engine's defaults."""
    defaults = asdict(registry.get(point.engine).traits.settings())
    return {name: value for name, value in point.engine_options if defaults.get(name) != value}


def status_columns(
    started_at: datetime,
    ended_at: datetime,
    error: PointError | None = None,
    attempts: int = 0,
    reason: str | None = None,
) -> Columns:
    """Return when a trial ran and how it ended.

    Args:
        started_at: start of the last attempt.
        ended_at: its end.
        error: why there is no number; None for a measured trial.
        attempts: how often it was started.
        reason: why the trial cannot run here, for one without an error.
    """
    status = "infeasible" if reason else "ok"
    memory = error if isinstance(error, OutOfMemory) else None
    return {
        "started_at": started_at,
        "ended_at": ended_at,
        "wall_s": (ended_at - started_at).total_seconds(),
        "attempts": attempts,
        "status": status if error is None else error.status,
        "reason": reason if error is None else str(error),
        "oom_stage": memory.stage if memory else None,
        "oom_requested_bytes": memory.requested_bytes if memory else None,
    }


def preparation_columns(workers: TrialWorkers, clocks: Sequence[ClockDrift]) -> Columns:
    """Return what the workers loaded and how well their clocks agree, as columns of `trials`.

    What is the same for all workers is taken from the first.
    """
    first = workers.prepared[0]
    fidelity = first.comparison.fidelity
    names = {prepared.device.name for prepared in workers.prepared}
    nodes = Counter(member.node_id for member in workers.members)
    return {
        **_cold_start(first),
        **cold_start_columns(workers.prepared),
        "engine_version": first.engine.version,
        "model_sha256": first.model.sha256,
        "precision": first.model.precision,
        "dialect": first.model.dialect,
        "parameters": first.model.parameters,
        "macs_per_item": first.model.macs_per_item,
        "input_shape": first.input_shape,
        **traffic_columns(first.model),
        "device": names.pop() if len(names) == 1 else "mixed",
        "instances": workers.instances,
        "mps": _only({prepared.mps for prepared in workers.prepared}),
        "mig_profile": _only({prepared.device.mig_profile for prepared in workers.prepared}),
        "n_nodes": len(nodes),
        "workers_per_node": max(nodes.values()) // workers.instances,
        "simulated": first.engine.simulated,
        "nice": max(member.host.nice for member in workers.members),
        "notes": sorted({note for prepared in workers.prepared for note in prepared.notes}),
        "fidelity_sqnr_db": fidelity.sqnr_db if fidelity else None,
        "fidelity_cosine": fidelity.cosine if fidelity else None,
        "quantised_macs_frac": first.model.quantised_macs_frac,
        "reduced_ops": _listed(first.model.reduced_ops),
        "kept_fp32_ops": list(first.model.conversion.kept_fp32_ops),
        "calibration": first.model.conversion.calibration,
        "rounded_sqnr_db": first.model.conversion.rounded_sqnr_db,
        **_worst_clock(clocks),
        "harness_us_per_batch": max(prepared.harness_us for prepared in workers.prepared),
    }


def _worst_clock(clocks: Sequence[ClockDrift]) -> Columns:
    """Return how far the clocks are off; nothing where the end of the streams was not seen."""
    if not clocks:
        return {}
    return {
        "clock_bound_us": max(clock.bound_ns for clock in clocks) / 1e3,
        "clock_skew": max(clock.skew for clock in clocks),
    }


def _only(values: set[Any]) -> Any:
    """Return the value that all workers have; None if they differ."""
    return values.pop() if len(values) == 1 else None


def _listed(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def measurement_columns(workers: TrialWorkers, summary: Summary) -> Columns:
    """Return what was measured, as columns of `trials`."""
    macs = workers.prepared[0].model.macs_per_item
    gflops = None if macs is None else 2 * macs / 1e9
    rate = summary.trial["items_per_s"]
    return {
        **summary.trial,
        **simulated_energy(
            [each.engine.power_w for each in workers.prepared[:: workers.instances]], summary.trial
        ),
        "gflops_per_item": gflops,
        "achieved_tflops": None if gflops is None else rate * gflops / 1e3,
    }


def verdict_columns(
    workers: TrialWorkers, streamed: StreamedTrial, limits: Limits, trials: int
) -> Columns:
    """Return verdict, flags and advice, as columns of `trials`.

    Args:
        workers: of the trial.
        streamed: their streams.
        limits: of warm-up and measurement.
        trials: number of trials of each point in the experiment.
    """
    assert streamed.stop.last is not None
    columns = {**preparation_columns(workers, streamed.clocks), **streamed.summary.trial}
    kind = workers.prepared[0].device.kind
    evidence = TrialEvidence(
        streamed.warm_up,
        streamed.stop.last,
        columns,
        kind,
        trials,
        workers.uneven,
        workers.prepared[0].comparison.reference_finite,
        workers.places,
        streamed.overloaded,
        judge_outputs(
            [prepared.outputs for prepared in workers.prepared],
            [columns["outputs_sha256_end"] for columns in streamed.summary.workers],
            workers.bit_kinds,
        ),
    )
    raised = flagging.raised_flags(evidence)
    return {
        "verdict": flagging.verdict(raised, limits.settings.verdict_best),
        "flags": list(raised),
        "advice": flagging.advice(raised, evidence, limits),
        "warmup_converged": streamed.warm_up.state == "agreed",
        "looks": streamed.stop.checks,
    }


def worker_rows(
    workers: TrialWorkers, summary: Summary, clocks: Sequence[ClockDrift]
) -> list[Columns]:
    """Return one row for each worker."""
    rows = []
    for rank, columns in enumerate(summary.workers):
        member, prepared = workers.members[rank], workers.prepared[rank]
        device = prepared.device
        gpu = device.kind == "gpu"
        rows.append(
            {
                **columns,
                **_cold_start(prepared),
                "ready_s": prepared.ready_s,
                "load_late_ms": prepared.begun.late_ms,
                "worker": rank,
                "instance": rank % workers.instances,
                "mps": prepared.mps,
                "power_limit_w": prepared.power_limit_w,
                "mig_profile": device.mig_profile,
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
                "notes": list(prepared.notes),
                **(_clock(clocks[rank]) if clocks else {}),
                "outputs_sha256_start": prepared.outputs.sha256,
            }
        )
    return rows


def _clock(clock: ClockDrift) -> Columns:
    return {
        "clock_offset_us": clock.before.offset_ns / 1e3,
        "clock_offset_end_us": clock.after.offset_ns / 1e3,
        "clock_rtt_us": clock.before.round_trip_ns / 1e3,
        "clock_bound_us": clock.bound_ns / 1e3,
        "clock_skew": clock.skew,
    }


def _cold_start(prepared: Prepared) -> Columns:
    engine = prepared.engine
    return {
        "build_s": engine.build_s,
        "build_cache_hit": engine.build_cache_hit,
        "load_s": engine.load_s,
        "first_infer_ms": prepared.first_infer_ms,
        "engine_bytes": engine.engine_bytes,
        "engine_sha256": engine.engine_sha256,
        "page_cache": prepared.begun.page_cache,
    }

"""Starting a loaded plan: execution contexts, buffers and graphs, within the memory limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.engines.tensorrt import failures
from raybench.engines.tensorrt.buffers import Port, io_bytes
from raybench.engines.tensorrt.runner import Runner, RunnerConfig, slot_count
from raybench.engines.tensorrt.state_runner import StateRunner, placed, ring_outputs
from raybench.errors import OutOfMemory, Unsupported
from raybench.models.items.initial_state import InitialState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raybench.engines.base import Load
    from raybench.engines.tensorrt.device import Context
    from raybench.engines.tensorrt.runner import BatchGraphs

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}
"""Element types that may cross the bus; TensorRT's own table raises for those numpy lacks."""

NOT_CAPTURED = "CUDA could not capture a batch as a graph, so each batch is enqueued call by call."
"""Note of a row."""


def check_inputs(load: Load, free_bytes: int) -> None:
    """Refuse, before building, inputs and state that alone exceed the memory, and state on several streams.

    Args:
        load: what to run.
        free_bytes: of the device.
    """
    if load.model.state and load.options.streams > 1:
        raise Unsupported(
            f"engine.streams={load.options.streams} computes batches at the same time, and each batch of "
            f"model {load.model.name!r} reads what the one before has left. Use engine.streams=1."
        )
    one = sum(array.nbytes for array in load.batches.batch(0).values())
    needed = _slots(load) * one + InitialState.of(load.model, load.batches).nbytes
    require_memory("input", needed, load.memory_limit_bytes)
    if needed > free_bytes:
        raise OutOfMemory("input", needed, f"the device has {free_bytes / 2**20:.0f} MiB free")


def start(
    context: Context, engine: Any, plan_bytes: int, load: Load, make: Callable[[], Any]
) -> tuple[Runner, tuple[str, ...]]:
    """Make execution contexts, buffers and graphs, in that order.

    Args:
        context: the device.
        engine: TensorRT's engine of the plan.
        plan_bytes: size of the plan; its weights take about as much.
        load: what to run.
        make: makes an execution context of the plan.

    Returns:
        The runner, and notes for the row.
    """
    options, limit = load.options, load.memory_limit_bytes
    scratch = options.streams * _scratch_bytes(engine)
    require_memory("load", plan_bytes + scratch, limit)
    shapes = _shapes(load, load.batches.batch_size)
    contexts = [_execution_context(context, make, shapes) for _ in range(options.streams)]
    ports = _ports(context.trt, engine, contexts[0])
    io = _io_bytes(ports, load)
    require_memory("input", plan_bytes + scratch + io, limit)
    runner = _runner(context, contexts, ports, load)
    try:
        runner.warm()
        captured = not options.cuda_graphs or runner.capture()
        if isinstance(runner, StateRunner):
            runner.restart()
    except BaseException:
        runner.close()
        raise
    return runner, () if captured else (NOT_CAPTURED,)


def _runner(
    context: Context, contexts: Sequence[Any], ports: tuple[Port, ...], load: Load
) -> Runner:
    """Return what runs the plan, with all of its buffers."""
    model, options = load.model, load.options
    kept = model.kept_outputs | ring_outputs(model.state)
    config = RunnerConfig(
        contexts=contexts,
        ports=ports,
        batches=load.batches,
        slots=_slots(load),
        transfers=load.transfers,
        spin=options.spin,
        kept=kept,
        placed=placed(model.state),
    )
    if model.state:
        initial = InitialState.of(model, load.batches)
        return StateRunner(context, config, model.state, initial)
    return Runner(context.cuda, context.journal, config)


def add_parts(
    context: Context,
    engine: Any,
    plan_bytes: int,
    load: Load,
    make: Callable[[], Any],
    runner: Runner,
) -> dict[int, BatchGraphs]:
    """Make a dynamic plan ready for batches that are not full, as far as memory and capture allow.

    Args:
        context: the device.
        engine: TensorRT's engine of the plan.
        plan_bytes: size of the plan.
        load: what to run.
        make: makes an execution context of the plan.
        runner: of full batches.

    Returns:
        What runs each size, by items, rising. Empty for a static plan, and without CUDA graphs.
    """
    if load.options.largest_batch is None or not load.options.cuda_graphs:
        return {}
    parts: dict[int, BatchGraphs] = {}
    scratch = load.options.streams * _scratch_bytes(engine)
    io = _io_bytes(_ports(context.trt, engine, runner.contexts[0]), load)
    for size in reversed(load.part_sizes[:-1]):
        try:
            needed = plan_bytes + io + (2 + len(parts)) * scratch
            require_memory("load", needed, load.memory_limit_bytes)
            contexts = [
                _execution_context(context, make, _shapes(load, size))
                for _ in range(load.options.streams)
            ]
        except OutOfMemory:
            break
        part = runner.add_size(contexts, _ports(context.trt, engine, contexts[0]))
        if part is None:
            break
        parts[size] = part
    return dict(sorted(parts.items()))


def require_memory(stage: str, nbytes: int, limit: int | None) -> None:
    """Raise OutOfMemory if a size exceeds the memory limit of the device."""
    if limit is not None and nbytes > limit:
        raise OutOfMemory(stage, nbytes, f"device.memory_limit is {limit / 2**20:.0f} MiB")


def _io_bytes(ports: Sequence[Port], load: Load) -> int:
    """Return the device memory for inputs and outputs of all slots, and for the state that they share."""
    state = {tensor.input: tensor for tensor in load.model.state}
    own = [port for port in ports if port.name not in state]
    held = [port for port in ports if port.name in state]
    rings = [port for port in held if state[port.name].ring_axis is not None]
    return io_bytes(own, _slots(load)) + io_bytes(rings, 1)


def _shapes(load: Load, size: int) -> dict[str, tuple[int, ...]]:
    return {spec.name: spec.with_batch(size) for spec in load.model.inputs}


def _slots(load: Load) -> int:
    return slot_count(load.inflight, load.options.streams)


def _scratch_bytes(engine: Any) -> int:
    size = getattr(engine, "device_memory_size_v2", None)
    return int(engine.device_memory_size if size is None else size)


def _execution_context(
    context: Context, make: Callable[[], Any], shapes: dict[str, tuple[int, ...]]
) -> Any:
    execution = make()
    if execution is None:
        raise failures.of_library("load", context.journal.lines(), "make an execution context")
    for name, shape in shapes.items():
        if not execution.set_input_shape(name, shape):
            doing = f"take shape {shape} for input {name!r}"
            raise failures.of_library("load", context.journal.lines(), doing)
    return execution


def _ports(trt: Any, engine: Any, execution: Any) -> tuple[Port, ...]:
    """Return inputs and outputs as the plan has them, at the context's shapes."""
    ports = []
    for name in (engine.get_tensor_name(i) for i in range(engine.num_io_tensors)):
        shape = tuple(int(dim) for dim in execution.get_tensor_shape(name))
        kind = engine.get_tensor_dtype(name).name
        if min(shape, default=0) < 0:
            raise Unsupported(f"Output {name!r} has shape {shape}: its size depends on the data.")
        if kind not in DTYPES:
            raise Unsupported(f"Tensor {name!r} is {kind}, which numpy has not got.")
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        ports.append(Port(name, np.dtype(DTYPES[kind]), shape, is_input))
    return tuple(ports)

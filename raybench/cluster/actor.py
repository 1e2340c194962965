"""The Ray actor around a Worker, and how model files and built plans reach its node."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from raybench.cluster import file_transfer
from raybench.machine import crash_log
from raybench.measure.tickets import create_tickets
from raybench.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.cluster.file_transfer import FileBundle
    from raybench.engines.base import Place
    from raybench.experiment import Point
    from raybench.measure.prepared import Prepared
    from raybench.measure.running_stream import StreamSnapshot


@lru_cache(maxsize=1)
def actor_class() -> Any:
    """Return the Worker as a Ray actor class.

    `doing`, `snapshot` and `halt` run on a thread of their own, so that they are answered meanwhile.
    Calls that are made hundreds of times record no task events: Ray's dashboard keeps 10,000 events
    of a job and should show what the workers do. Ray never restarts the actor and never repeats a
    call, because a trial that was cut off does not count.
    """
    import ray

    class BenchWorker(Worker):
        def __init__(self, label: str, place: Place) -> None:
            super().__init__(label, crash_log.open_log(), place)

        @override
        def prepare(
            self,
            point: Point,
            rank: int,
            slot: int,
            seed: int,
            sharers: int = 1,
            files: Mapping[str, Any] | None = None,
        ) -> Prepared:
            return super().prepare(_with_local_files(point, files or {}), rank, slot, seed, sharers)

        def build_plan(
            self, point: Point, slot: int, seed: int, files: Mapping[str, Any]
        ) -> dict[str, str]:
            names = self.build(_with_local_files(point, files), slot, seed)
            return file_transfer.manifest(names)

        def pack(self, names: Sequence[str]) -> FileBundle:
            return file_transfer.bundle_cached(names)

        def create_tickets(self) -> str:
            self._tickets, path = create_tickets()
            return path

        @ray.method(enable_task_events=False)  # type: ignore[untyped-decorator]
        @override
        def clock_ns(self) -> int:
            return super().clock_ns()

        @ray.method(concurrency_group="watch", enable_task_events=False)  # type: ignore[untyped-decorator]
        @override
        def doing(self) -> tuple[str, str]:
            return super().doing()

        @ray.method(concurrency_group="watch", enable_task_events=False)  # type: ignore[untyped-decorator]
        @override
        def snapshot(self, first_edge: int) -> StreamSnapshot:
            return super().snapshot(first_edge)

        @ray.method(concurrency_group="watch")  # type: ignore[untyped-decorator]
        @override
        def halt(self) -> None:
            super().halt()

    BenchWorker.__qualname__ = "BenchWorker"  # the name that the dashboard shows
    options = {"concurrency_groups": {"watch": 1}, "max_restarts": 0, "max_task_retries": 0}
    return ray.remote(**options)(BenchWorker)


def point_files(point: Point) -> dict[str, Any]:
    """Return object-store references to the files of the point's "model" and "inputs".

    Ray would fetch a bare argument for every worker; inside a mapping it is fetched only where
    asked for. What needs no files is left out, and all where Ray runs on this machine only.
    """
    import ray

    context = ray.get_runtime_context()
    files: dict[str, Any] = {}
    if not context.runtime_env.get("py_modules"):
        return files
    graph = file_transfer.file_to_send(point.model, point.model_settings)
    if graph is not None:
        files["model"] = _put_model(context.get_job_id(), str(graph), point.model_identity)
    if point.inputs is not None:
        path = point.model_settings.inputs
        inputs = _put_inputs(context.get_job_id(), path, point.inputs.sha256)
        files |= {} if inputs is None else {"inputs": inputs}
    return files


@lru_cache(maxsize=16)
def _put_model(_job: str, path: str, _identity: str) -> Any:
    """Put a model's files into the object store, once per job and version of the model."""
    import ray

    return ray.put(file_transfer.bundle_model(path))


@lru_cache(maxsize=4)
def _put_inputs(_job: str, path: str, _sha256: str) -> Any:
    """Put real inputs into the object store, once per job and content; None if too large."""
    import ray

    bundle = file_transfer.bundle_inputs(path)
    return None if bundle is None else ray.put(bundle)


def forget_point_files() -> None:
    """Drop the references to files, which are valid only in the cluster that is left now."""
    _put_model.cache_clear()
    _put_inputs.cache_clear()


def _with_local_files(point: Point, files: Mapping[str, Any]) -> Point:
    """Return the point with the paths on this node, fetching the files when needed."""
    import ray

    if "model" in files:
        fetch = partial(ray.get, files["model"])
        path = file_transfer.local_model_path(
            point.model, point.model_settings, point.model_identity, fetch
        )
        point = replace(point, model=path)
    if "inputs" in files and point.inputs is not None:
        fetch = partial(ray.get, files["inputs"])
        given = point.model_settings.inputs
        path = file_transfer.local_inputs_path(given, point.inputs.sha256, fetch)
        point = replace(point, model_settings=replace(point.model_settings, inputs=path))
    return point


def store_built(manifest: Mapping[str, str], bundle: Sequence[Any]) -> bool:
    """Put files that another node built into this node's cache; runs as a Ray task.

    Args:
        manifest: SHA-256 of each file, by name.
        bundle: object-store reference to the files, in a list so that it is fetched only if needed.

    Returns:
        Whether the files had to be fetched.
    """
    import ray

    return file_transfer.store_in_cache(manifest, partial(ray.get, bundle[0]))

import pytest
import ray.exceptions as rx

from raybench.cluster.ray_errors import failure_of
from raybench.errors import ConfigError, OutOfMemory, Unsupported


def raised(cause):
    return rx.RayTaskError("prepare", "Traceback", cause).as_instanceof_cause()


@pytest.mark.parametrize(
    ("error", "status", "retried"),
    [
        (rx.ActorDiedError(), "worker_died", True),
        (rx.ActorUnavailableError("Socket closed", None), "worker_died", True),
        (rx.NodeDiedError("gone"), "node_died", True),
        (rx.RaySystemError("Ray has not been started yet."), "node_died", True),
        (rx.OutOfMemoryError("Task was killed due to the node running low on memory"),
         "out_of_memory", False),
        (raised(MemoryError()), "out_of_memory", False),
        (raised(OutOfMemory("load", 5, "full")), "out_of_memory", False),
        (raised(Unsupported("no")), "unsupported", False),
        (raised(ConfigError("The cache cannot be written.")), "failed", False),
        (raised(ValueError("odd")), "failed", True),
    ],
)  # fmt: skip
def test_every_exception_of_ray_gives_a_status_and_whether_to_retry(error, status, retried):
    failure = failure_of(error, "prepare")
    assert (failure.status, failure.retried) == (status, retried)
    assert str(failure)


def test_a_bug_in_raybench_is_not_a_failure_of_the_point():
    assert failure_of(KeyError("mine"), "prepare") is None


KILLED = """The actor died unexpectedly before finishing this task.
\tclass_name: BenchWorker
\tactor_id: 9c2ae1bb0e8c5f4a7d3b5b1a01000000
\tpid: 840
\tnamespace: raybench
\tip: 127.0.0.1
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit \
detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common causes \
include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray stop --force \
was called, or (3) the worker crashed unexpectedly due to SIGSEGV or another unexpected error."""
EXITED = """The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR \
Worker exit detail: Worker exits unexpectedly by a signal. SystemExit is raised (sys.exit is \
called). Exit code: 5. The process receives a SIGTERM."""
NO_START = """The actor died because of an error raised in its creation task, \
\x1b[36mray::BenchWorker.__init__()\x1b[39m (pid=1, ip=127.0.0.1, actor_id=9c2a)
  File "worker.py", line 1, in __init__
ModuleNotFoundError: No module named 'openvino'"""


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        (KILLED, "it was killed, by hand or by the system for its memory (dmesg says so)"),
        (EXITED, "it exited with code 5"),
        (NO_START, "it could not start, ModuleNotFoundError: No module named 'openvino'"),
        ("The actor is dead because it was killed by `ray.kill`.", "another program ended it"),
        ("The actor is temporarily unavailable: RpcError: x", "its node no longer answered"),
        ("\x1b[33mSomething\x1b[0m new.", "Something new"),
    ],
)
def test_the_reason_is_one_clause_in_place_of_rays_text(text, clause):
    died = rx.ActorDiedError()
    died.error_msg = text
    assert str(failure_of(died, "measure")) == (
        f"A worker's process ended in phase 'measure': {clause}."
    )

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

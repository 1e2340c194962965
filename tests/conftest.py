import os
import re
import signal
import sys
import tempfile

import onnx
import pytest
from helpers.last_words import last_of
from helpers.tiny_graphs import tiny_bert, tiny_conv
from hypothesis import HealthCheck, settings

from raybench.cli.run import TerminalDisplay, show_results
from raybench.cluster import session as sessions
from raybench.config.compose import read
from raybench.execute import lead
from raybench.execute.discovery import DiscoveredCluster
from raybench.execute.stop_request import StopRequest
from raybench.machine.devices import cores

# the same examples everywhere, and none fails because the machine is slow or the folder read-only
settings.register_profile("raybench", derandomize=True, database=None, deadline=None,
                          suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
settings.load_profile("raybench")

# what a shell sets for raybench, Ray or thread pools must not decide what the tests see
OF_THE_SHELL = re.compile(
    r"RAYBENCH_(?!BROWSER)|(RAY|XDG|SLURM|AWS|OMP|KMP|MKL|OPENBLAS)_|COLUMNS$"
)
for name in filter(OF_THE_SHELL.match, list(os.environ)):
    del os.environ[name]

# as `session.connect` sets it; Ray reads it when it is imported, and tests import Ray themselves
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

# a shell lets what it starts in the background ignore Ctrl-C, and nohup lets it ignore SIGHUP; the
# programs under test would inherit that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def own_cache():
    """Prepare graphs in a folder of this session, not in the one of the user who runs the tests."""
    with tempfile.TemporaryDirectory(prefix="raybench-", ignore_cleanup_errors=True) as folder:
        os.environ["RAYBENCH_CACHE"] = folder
        yield


@pytest.fixture(scope="session")
def cluster(own_cache):
    """Start the only Ray cluster of the session: 2 cores, or the only one, and 4 declared GPUs."""
    devices = {"cpu": min(2, len(cores())), "gpu": 4}
    with sessions.connect(None, devices, dashboard=False) as session:
        yield session


@pytest.fixture(autouse=True)
def _unconnected(request, monkeypatch):
    """Let a test that does not use the session's cluster not notice whether others have started it."""
    ray = sys.modules.get("ray")
    if ray is not None and request.node.get_closest_marker("ray") is None:
        monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture
def measure(cluster, tmp_path):
    """Return a function that runs raybench on the session's cluster: exit code and folder."""

    def command(*words):
        folder = tmp_path / "results"
        request = read(last_of([f"results.dir={folder}", *words])).resolve(cluster.devices)
        discovered = DiscoveredCluster(cluster, cluster.devices)
        display = TerminalDisplay()
        return show_results(
            lead.measure(request, discovered, list(words), display, StopRequest())
        ), folder

    return command


QUICK = (
    "preset=quick",
    "measure.block_s=0.05",
    "measure.warmup_min_s=0.1",
    "measure.min_s=0.5",
    "measure.max_s=1.0",
    "measure.look_s=0.25",
)


@pytest.fixture
def quick():
    """Return options that shorten a point to about a second."""
    return QUICK


@pytest.fixture
def tiny(tmp_path):
    """Save a convolution that runs in microseconds and return its path."""
    path = tmp_path / "tiny.onnx"
    onnx.save(tiny_conv(), path)
    return path


@pytest.fixture
def two_inputs(tmp_path):
    """Save a graph with two int64 inputs of dynamic length and return its path."""
    path = tmp_path / "two.onnx"
    onnx.save(tiny_bert(table=100), path)
    return path

"""Each private name of Ray exists in this version, and each use of one works without it."""

import builtins
import importlib
import inspect
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ray
from helpers.fake_head import Head, serving

from raybench.cluster import ray_internals
from raybench.paths import PACKAGE

PRIVATE_NAME = re.compile(
    r"ray\._(?!_version__)|ray\.core|ray\.dashboard|_raylet\b|grpc_utils|_node_ip_address\b"
    r"|_system_config\b"
)
METADATA = {"ray_version": ray.__version__}


@pytest.fixture
def hide(monkeypatch):
    """Make modules of Ray that can be imported here fail to import."""
    real_import = builtins.__import__

    def hide_modules(*names):
        def import_unless_hidden(name, *others, **options):
            if name in names:
                raise ImportError(f"{name} has moved")
            return real_import(name, *others, **options)

        monkeypatch.setattr(builtins, "__import__", import_unless_hidden)

    return hide_modules


def test_only_one_file_uses_private_names_of_ray():
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "ray_internals.py"]
    assert len(files) > 50
    offenders = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PRIVATE_NAME.search(line.partition("#")[0])
    ]
    assert offenders == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("ray._private.grpc_utils", "init_grpc_channel"),
        ("ray._private.services", "canonicalize_bootstrap_address_or_die"),
        ("ray._raylet", "AuthenticationTokenLoader"),
        ("ray._raylet", "Config"),
        ("ray._private.node", "Node"),
        ("ray._private.utils", "set_sigterm_handler"),
        ("ray._private.ray_constants", "ENABLE_RAY_CLUSTER"),
        ("ray.core.generated.gcs_service_pb2", "GetClusterIdRequest"),
        ("ray.core.generated.gcs_service_pb2", "InternalKVGetRequest"),
        ("ray.core.generated.gcs_service_pb2", "GetAllNodeInfoRequest"),
        (ray_internals.DASHBOARD_PACKAGES, "__name__"),
        ("ray._private.worker", "print_to_stdstream"),
        ("ray._private.auto_init_hook", "enable_auto_connect"),
    ],
)
def test_this_ray_has_the_private_name(module, name):
    assert hasattr(importlib.import_module(module), name)


def test_this_ray_has_the_private_methods_and_arguments():
    from ray._private.node import Node

    assert set(ray_internals.DASHBOARD_STARTERS) <= set(vars(Node))
    assert "_session_dir" in inspect.getsource(vars(Node)["_init_temp"])
    source = inspect.getsource(inspect.unwrap(ray.init))
    assert '"_node_ip_address"' in source
    assert '"_system_config"' in source
    assert "Unknown keyword" in source


# --- head node ------------------------------------------------------------------------------------


def test_a_head_node_answers_three_questions():
    alive = {"node_manager_address": "10.0.0.1", "node_manager_hostname": "a"}
    with serving(Head(METADATA, [alive, {**alive, "state": 1}])) as address:
        head = ray_internals.head_node(address, 2.0)
        assert head.cluster_id() == b"1"
        assert head.metadata() == METADATA
        assert [node.node_manager_address for node in head.nodes()] == ["10.0.0.1"]


def test_a_head_node_that_refuses_gives_its_status():
    with serving(Head(METADATA, [], token="secret")) as address:
        head = ray_internals.head_node(address, 2.0)
        with pytest.raises(ray_internals.HeadNodeError) as caught:
            head.cluster_id()
    assert caught.value.code == "UNAUTHENTICATED"


@pytest.mark.parametrize("module", ["ray._private.grpc_utils", "ray.core.generated"])
def test_without_rays_channel_or_messages_no_head_node_is_asked(hide, module):
    hide(module)
    assert ray_internals.head_node("127.0.0.1:1", 2.0) is None


def test_without_a_type_of_message_no_head_node_is_asked(monkeypatch):
    from ray.core.generated import gcs_service_pb2

    monkeypatch.delattr(gcs_service_pb2, "GetAllNodeInfoRequest")
    assert ray_internals.head_node("127.0.0.1:1", 2.0) is None


# --- running cluster ------------------------------------------------------------------------------


def test_the_running_cluster_is_the_one_that_ray_finds(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert ray_internals.running_cluster() == "10.0.0.1:6379"


def test_without_rays_search_the_running_cluster_is_unknown(hide):
    hide("ray._private.services")
    assert ray_internals.running_cluster() is None


# --- token ----------------------------------------------------------------------------------------

ASK_FOR_TOKEN = """
import builtins, sys
from raybench.cluster import ray_internals
import ray
if sys.argv[1] == "hidden":
    real_import = builtins.__import__
    def import_unless_hidden(name, *others, **options):
        if name == "ray._raylet":
            raise ImportError(name)
        return real_import(name, *others, **options)
    builtins.__import__ = import_unless_hidden
print(ray_internals.has_token(), ray_internals.reload_auth_mode())
"""


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("token", [None, "variable", "path", "home"])
def test_a_token_is_found_with_and_without_rays_loader(tmp_path, token, hidden):
    usual = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    variables = {"HOME": str(tmp_path)}
    if token == "variable":
        variables["RAY_AUTH_TOKEN"] = "0" * 64
    if token in ("path", "home"):
        file = tmp_path / ("token" if token == "path" else ".ray/auth_token")
        file.parent.mkdir(exist_ok=True)
        file.write_text("0" * 64)
    if token == "path":
        variables["RAY_AUTH_TOKEN_PATH"] = str(file)
    done = subprocess.run(
        [sys.executable, "-c", ASK_FOR_TOKEN, "hidden" if hidden else "as it is"],
        env={**usual, **variables}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(token is not None), str(not hidden)]


# --- ray.init -------------------------------------------------------------------------------------


def test_private_arguments_reach_ray(monkeypatch):
    calls = []
    monkeypatch.setattr(ray, "init", lambda **options: calls.append(options) or "context")
    settings = {"worker_niceness": 0}
    context = ray_internals.init(address="a:1", node_ip_address="10.0.0.2", system_config=settings)
    assert context == "context"
    assert calls == [{"address": "a:1", "_node_ip_address": "10.0.0.2", "_system_config": settings}]


def test_without_private_arguments_ray_starts_with_settings_from_the_environment(monkeypatch):
    def init(**options):
        private = [name for name in options if name.startswith("_")]
        if private:
            raise RuntimeError(f"Unknown keyword argument(s): {', '.join(private)}")
        return options

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_worker_niceness", "5")  # the user's own, which stays
    monkeypatch.setenv("RAY_enable_worker_prestart", "")  # so that it is restored
    monkeypatch.delenv("RAY_enable_worker_prestart")
    settings = {"worker_niceness": 0, "enable_worker_prestart": True}
    assert ray_internals.init(address="local", system_config=settings) == {"address": "local"}
    names = ("RAY_worker_niceness", "RAY_enable_worker_prestart")
    assert [os.environ[name] for name in names] == ["5", "true"]


def test_what_else_ray_refuses_is_not_tried_again(monkeypatch):
    def init(**options):
        raise RuntimeError("Maybe you called ray.init twice by accident?")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(RuntimeError, match="twice"):
        ray_internals.init(system_config={"worker_niceness": 0})


# --- loopback address ------------------------------------------------------------------------------


@pytest.fixture
def cluster_constant(monkeypatch):
    """Make Ray as if it was imported without the variable, and return the module of its constant."""
    from ray._private import ray_constants

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
    monkeypatch.setenv(ray_internals.CLUSTER_VARIABLE, "")  # so that it is restored
    monkeypatch.delenv(ray_internals.CLUSTER_VARIABLE)
    return ray_constants


def test_ray_that_was_imported_before_starts_on_the_loopback_address(cluster_constant):
    from ray._private.services import get_node_ip_address

    with ray_internals.on_loopback() as ensured:
        assert ensured
        assert not cluster_constant.ENABLE_RAY_CLUSTER
        if ray._private.worker._global_node is None:
            assert get_node_ip_address() in ("127.0.0.1", "::1")
    assert cluster_constant.ENABLE_RAY_CLUSTER


def test_a_user_can_let_ray_start_on_the_machines_own_address(cluster_constant, monkeypatch):
    monkeypatch.setenv(ray_internals.CLUSTER_VARIABLE, "1")
    with ray_internals.on_loopback() as ensured:
        assert ensured
        assert cluster_constant.ENABLE_RAY_CLUSTER


def test_without_rays_constant_the_variable_has_to_precede_the_import(
    cluster_constant, monkeypatch
):
    monkeypatch.delattr(cluster_constant, "ENABLE_RAY_CLUSTER")
    with ray_internals.on_loopback() as ensured:
        assert not ensured
        assert os.environ[ray_internals.CLUSTER_VARIABLE] == "0"
    monkeypatch.setenv(ray_internals.CLUSTER_VARIABLE, "0")
    with ray_internals.on_loopback() as ensured:
        assert ensured


# --- dashboard and processes ----------------------------------------------------------------------


def test_a_start_without_a_dashboard_leaves_ray_as_it_was():
    import ray.dashboard.optional_deps as before
    from ray._private.node import Node

    methods = dict(vars(Node))
    with ray_internals.without_dashboard():
        with pytest.raises(ImportError):
            importlib.import_module(ray_internals.DASHBOARD_PACKAGES)
        assert {name for name in methods if vars(Node)[name] is not methods[name]} == set(
            ray_internals.DASHBOARD_STARTERS
        )
    assert importlib.import_module(ray_internals.DASHBOARD_PACKAGES) is before
    assert methods == dict(vars(Node))


def test_a_ray_without_the_packages_of_its_dashboard_is_noticed(monkeypatch):
    assert ray_internals.has_dashboard()
    monkeypatch.setitem(sys.modules, ray_internals.DASHBOARD_PACKAGES, None)
    assert not ray_internals.has_dashboard()


def test_without_rays_node_or_its_methods_ray_starts_what_it_starts(hide, monkeypatch):
    from ray._private.node import Node

    for name in ray_internals.DASHBOARD_STARTERS:
        monkeypatch.delattr(Node, name)
    with ray_internals.without_dashboard():
        assert not set(ray_internals.DASHBOARD_STARTERS) & set(vars(Node))
    hide("ray._private.node")
    with ray_internals.without_dashboard():
        importlib.import_module(ray_internals.DASHBOARD_PACKAGES)


def test_a_process_that_has_ended_is_none_of_rays():
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        process = psutil.Process(child.pid)
    assert not ray_internals.is_autoscaler(process)
    assert not ray_internals.is_node_process(process)


@pytest.mark.ray
def test_rays_node_is_a_child_of_the_driver(cluster):
    children = psutil.Process().children()
    assert any(ray_internals.is_node_process(child) for child in children)


# --- messages and automatic start -----------------------------------------------------------------


def test_messages_of_rays_processes_are_not_printed_during_a_session(capfd, monkeypatch):
    from ray._private import worker

    printing = worker.print_to_stdstream
    message = {"lines": ["A worker died. Lease ID: 1"], "pid": "raylet", "is_err": False}
    with ray_internals.without_messages():
        assert "print_to_stdstream(" in inspect.getsource(worker.listen_error_messages)
        worker.print_to_stdstream(message, ignore_prefix=False)
    assert capfd.readouterr() == ("", "")
    assert worker.print_to_stdstream is printing
    monkeypatch.delattr(worker, "print_to_stdstream")
    with ray_internals.without_messages():
        pass


def test_ray_does_not_start_by_itself_during_a_session_nor_after_one_that_failed(monkeypatch):
    from ray._private import auto_init_hook

    monkeypatch.setattr(auto_init_hook, "enable_auto_connect", True)
    with ray_internals.without_automatic_start():
        assert not auto_init_hook.enable_auto_connect
    assert auto_init_hook.enable_auto_connect
    with pytest.raises(ValueError, match="lost"), ray_internals.without_automatic_start():
        raise ValueError("lost")
    assert not auto_init_hook.enable_auto_connect
    monkeypatch.delattr(auto_init_hook, "enable_auto_connect")
    with ray_internals.without_automatic_start():
        pass


def test_a_session_folder_is_named_also_when_a_signal_comes_while_it_is_made(monkeypatch):
    from ray._private.node import Node

    def make_half(node):
        node._session_dir = "/ray/session"
        raise KeyboardInterrupt

    monkeypatch.setattr(Node, "_init_temp", make_half)
    named = []
    with ray_internals.on_session_folder(named.append), pytest.raises(KeyboardInterrupt):
        Node._init_temp(SimpleNamespace())
    assert named == [Path("/ray/session")]


@pytest.mark.parametrize("missing", [False, True])
def test_sigterm_keeps_its_handler_when_ray_starts(monkeypatch, missing):
    from ray._private import utils

    if missing:
        monkeypatch.delattr(utils, "set_sigterm_handler")

    def start(**options):
        if missing:  # what the function would do
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        else:
            utils.set_sigterm_handler(lambda number, frame: sys.exit(number))
        os.kill(os.getpid(), signal.SIGTERM)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    monkeypatch.setattr(ray, "init", start)
    try:
        with pytest.raises(KeyboardInterrupt):
            ray_internals.init()
        assert signal.getsignal(signal.SIGTERM) is interrupt
    finally:
        signal.signal(signal.SIGTERM, before)

"""A plug-in engine that cannot be loaded hinders only those who use it."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

from raybench import plan
from raybench.cli import doctor, main
from raybench.cluster import nodes
from raybench.cluster.node_facts import NodeFacts
from raybench.engines import plugins, registry
from raybench.engines.base import EngineBase, EngineInfo, EngineTraits
from raybench.errors import EngineFailure, EngineUnavailable, Unsupported
from raybench.measure.probe import time_batch

METHODS = """
    @classmethod
    def load(cls, load):
        return cls()

    def submit(self, sequence):
        pass

    def collect(self, sequence):
        pass

    def outputs(self):
        return {}

    def close(self):
        pass
"""
ENGINE = f"from raybench.engines.base import *\nclass Engine(EngineBase):\n{METHODS}"
BROKEN = {
    "raising": ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
    "leaving": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "absent": ("import no_such_library", "No module named 'no_such_library'"),
    "misspelt": ("class Enginee: pass", "has no attribute 'Engine'"),
    "garbled": ("class Engine:", "IndentationError"),
    "foreign": ("class Engine: pass", "does not derive from raybench.engines.base.EngineBase"),
    "half": (
        "from raybench.engines.base import EngineBase\nclass Engine(EngineBase):\n"
        "    def submit(self, sequence): ...",
        "lacks load, collect, outputs",
    ),
    "unbound": (ENGINE.replace("@classmethod", ""), "a load that is no classmethod"),
    "mistyped": (f"{ENGINE}    traits = 'gpu'", "traits that are no raybench.engines.base.Engine"),
    "tpu": (f"{ENGINE}    traits = EngineTraits('tpu', device_kinds='tpu')", "device_kinds 'tpu'"),
    "optional": (
        f"{ENGINE}    traits = EngineTraits('optional', dict)",
        "settings that are no data",
    ),
    "demanding": (
        f"@dataclass\nclass Options:\n    key: str\n{ENGINE}"
        "    traits = EngineTraits('demanding', Options)",
        "settings without defaults",
    ),
    "renamed": (f"{ENGINE}    traits = EngineTraits('other')", "calls itself 'other'"),
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a module as a plug-in, under one name or several."""
    entries = []

    def plugin(name, source, module=None):
        module = module or f"plugin_{name}"
        (tmp_path / f"{module}.py").write_text(f"from dataclasses import dataclass\n{source}")
        entries.append(EntryPoint(name, f"{module}:Engine", plugins.GROUP))
        registry._plugins.cache_clear()

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
    yield plugin
    for name in [name for name in sys.modules if name.startswith("plugin_")]:
        del sys.modules[name]
    registry._plugins.cache_clear()
    plugins.load_class.cache_clear()


@pytest.fixture(params=BROKEN)
def broken(request, install):
    """Install a plug-in that cannot be loaded; return its name and the reason."""
    source, reason = BROKEN[request.param]
    install(
        request.param,
        source.replace("from raybench", "from dataclasses import *\nfrom raybench", 1),
    )
    return request.param, reason


def test_a_broken_plugin_is_a_fact_about_the_machine(broken):
    name, reason = broken
    missing = nodes.local_facts({"cpu": 1}).missing
    assert reason in missing[name]
    assert missing["simulated"] is None
    assert len(plan("smoke", {"engine": "simulated"}).points) > 0


def test_a_broken_plugin_is_refused_where_it_is_used(broken):
    name, reason = broken
    with pytest.raises(EngineUnavailable) as caught:
        plan("smoke", {"engine": name})
    assert reason in str(caught.value)
    assert str(caught.value) == registry.missing()[name]


@pytest.mark.parametrize("command", [["list", "engines"], ["doctor"]])
def test_commands_show_a_broken_plugin_with_the_reason(broken, command, capsys, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main.main(command) == 0
    name, reason = broken
    lines = [line for line in capsys.readouterr().out.splitlines() if name in line]
    assert any(reason in line for line in lines)


def test_a_plugin_that_only_a_node_can_load_is_not_ready(broken):
    missing = dict.fromkeys([broken[0], "not-installed-here", "onnxruntime"])
    facts = NodeFacts({}, {}, {"cpu": 1}, [], missing, [])
    assert doctor._ready_engines(facts) == ["onnxruntime"]


def test_five_methods_are_an_engine(install):
    install("five", ENGINE)
    engine = registry.get("five")
    assert (engine.traits.name, engine.traits.device_kinds) == ("five", ("cpu",))
    assert registry.unavailable_here("five", "cpu") is None
    assert engine.info == EngineInfo()
    assert len(plan("smoke", {"engine": "five"}).points) > 0


def test_an_engine_without_a_version_has_that_of_its_package(install, monkeypatch):
    install("five", ENGINE)
    engine = registry.get("five")()
    monkeypatch.setattr(plugins.Plugin, "version", "1.2")
    assert registry.report("five", engine).version == "1.2"
    engine.info = EngineInfo("3.4")
    assert registry.report("five", engine).version == "3.4"


def test_two_engines_without_traits_have_names_of_their_own(install):
    install("one", ENGINE)
    install("two", ENGINE)
    assert [registry.get(name).traits.name for name in ("one", "two")] == ["one", "two"]
    assert EngineBase.traits.name == ""


def test_a_plugin_with_the_name_of_a_built_in_engine_is_named_and_not_used(install, capsys):
    install("openvino", ENGINE)
    assert registry.get("openvino").__module__ == "raybench.engines.openvino"
    assert main.main(["list", "engines"]) == 0
    assert "'openvino' (plugin_openvino:Engine) has the name of an engine of raybench" in (
        capsys.readouterr().out
    )


def test_two_packages_with_one_name_are_both_named_where_it_is_used(install, capsys):
    install("twice", ENGINE, "plugin_a")
    install("twice", ENGINE, "plugin_b")
    assert main.main(["list", "engines"]) == 0
    assert main.main(["plan", "experiment=smoke", "engine=twice"]) == 2
    assert "plugin_a:Engine and plugin_b:Engine. Uninstall one" in capsys.readouterr().err


# --- once it runs ---------------------------------------------------------------------------------


class Plain(EngineBase):
    """An engine that does nothing, to be broken."""

    traits = EngineTraits("plain")

    @classmethod
    def load(cls, load):
        return cls()

    def submit(self, sequence):
        pass

    def collect(self, sequence):
        return None

    def outputs(self):
        return {}


def test_what_load_raises_names_engine_and_step():
    class Failing(Plain):
        @classmethod
        def load(cls, load):
            raise OSError("no such\nlibrary.")

    with pytest.raises(EngineFailure, match="'plain' failed in load: OSError: no such library"):
        plugins.load(Failing, None)


@pytest.mark.parametrize("error", [Unsupported("no fp16 here"), MemoryError("1 GiB")])
def test_what_raybench_knows_passes(error):
    class Refusing(Plain):
        @classmethod
        def load(cls, load):
            raise error

    with pytest.raises(type(error)) as caught:
        plugins.load(Refusing, None)
    assert caught.value is error


@pytest.mark.parametrize(("returned", "named"), [(None, "None"), ({}, "a dict")])
def test_load_must_return_an_engine(returned, named):
    class Other(Plain):
        @classmethod
        def load(cls, load):
            return returned

    with pytest.raises(EngineFailure, match=f"'plain' returned {named}, not a loaded Other"):
        plugins.load(Other, None)


def test_info_must_be_an_engine_info():
    class Talking(Plain):
        info = "version 3"

    with pytest.raises(EngineFailure, match="has a str for info"):
        plugins.load(Talking, None)


def test_a_failing_batch_names_the_engine():
    class Failing(Plain):
        def collect(self, sequence):
            return [][sequence]

    with pytest.raises(EngineFailure, match="'plain' failed in submit or collect: IndexError"):
        time_batch(Failing(), 0)


def test_a_device_clock_must_give_three_times():
    class Clocked(Plain):
        info = EngineInfo(device_clock=True)

    with pytest.raises(EngineFailure, match="device_clock=True, and collect returned None"):
        time_batch(Clocked(), 0)


def test_a_plugin_that_fails_when_asked_is_not_available(install):
    asked = "    @classmethod\n    def unavailable(cls):\n        return 1 / 0\n"
    install("asking", ENGINE + asked)
    assert "failed in unavailable: ZeroDivisionError" in registry.missing()["asking"]
    with pytest.raises(EngineUnavailable, match="Fix or uninstall it"):
        plan("smoke", {"engine": "asking"})


def test_what_a_plugin_prints_is_no_part_of_our_output(install, capsys):
    install("talking", f"print('welcome')\n{ENGINE}")
    assert main.main(["list", "engines"]) == 0
    out, err = capsys.readouterr()
    assert "welcome" not in out
    assert "welcome" in err

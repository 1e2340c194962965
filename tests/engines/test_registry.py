"""A plug-in engine that cannot be loaded hinders only those who use it."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from raybench import plan
from raybench.cli import doctor, main
from raybench.cluster import nodes
from raybench.cluster.node_facts import NodeFacts
from raybench.engines import registry
from raybench.errors import EngineUnavailable

BROKEN = {
    "raising": ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
    "absent": ("import no_such_library", "No module named 'no_such_library'"),
    "foreign": ("class Engine: pass", "does not derive from raybench.engines.base.EngineBase"),
}


@pytest.fixture(params=BROKEN)
def broken(request, tmp_path, monkeypatch):
    """Install a plug-in that cannot be loaded; return its name and the reason."""
    source, reason = BROKEN[request.param]
    (tmp_path / f"plugin_{request.param}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint(request.param, f"plugin_{request.param}:Engine", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    registry._locations.cache_clear()
    yield request.param, reason
    registry._locations.cache_clear()


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

"""The comparison with trtexec, with a program in its place that prints what trtexec prints."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import trtexec
from trtexec import OURS, THEIRS, Cell, Comparison, Failed, Group, Refused, Tool, Wanted

from raybench.engines.tensorrt.builder import Built
from raybench.engines.tensorrt.plans import PlanCache
from raybench.machine.nvml import Gpu

PRETENDER = """#!{python}
import sys
words = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
flipped = {number} >= 110000
on = lambda yes: "Enabled" if yes else "Disabled"
transfers = "includeDataTransfers" in words if flipped else "noDataTransfers" not in words
print("&&&& RUNNING TensorRT.trtexec [TensorRT v{number}] # trtexec")
if "help" not in words:
    rate = len(open(words["loadEngine"], "rb").read()) * int(words.get("infStreams", 1))
    print("[11/29/2026-01:00:00] [I] Data transfers:", on(transfers))
    print("[11/29/2026-01:00:00] [I] Spin-wait:", on(flipped or "useSpinWait" in words))
    print("[11/29/2026-01:00:00] [I] CUDA Graph:", on({graphs} and (flipped or "useCudaGraph" in words)))
    print("[11/29/2026-01:00:00] [I] Throughput:", rate, "qps")
    for name, ms in (("Enqueue Time", 0.0125), ("GPU Compute Time", 0.4975)):
        print(f"[11/29/2026-01:00:00] [I] {{name}}: min = 0.1 ms, max = 2.5e+01 ms, mean = 0.5 ms, "
              f"median = {{ms}} ms, percentile(90%) = 0.6 ms")
    print("[11/29/2026-01:00:00] [I] Total GPU Compute Time: 2.99 s")
    print("[11/29/2026-01:00:00] [I] GPU Compute Time: the GPU latency to execute the kernels.")
if {fails}:
    print("[11/29/2026-01:00:00] [E] Error[1]: the plan is of another device")
    sys.exit(1)
"""
CELL = Cell("lenet", "fp16", 8, transfers=True)
PLAN = b"plan" * 25


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    return tmp_path / "cache" / "tensorrt"


@pytest.fixture
def installed(monkeypatch):
    """Let raybench believe that TensorRT is here, as far as it looks before a run."""
    monkeypatch.setattr(trtexec.library, "installed", lambda *edition: "tensorrt")
    monkeypatch.setattr("raybench.engines.tensorrt.engine._has_bindings", lambda: True)


def program(folder, number=8600, graphs=True, fails=False):
    path = Path(folder) / "trtexec"
    path.write_text(
        PRETENDER.format(python=sys.executable, number=number, graphs=graphs, fails=fails)
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def plan_in(cache):
    return PlanCache(cache).get({"plan": 1}, lambda: Built(PLAN, 1.0, None)).sha256


# --- refusals -------------------------------------------------------------------------------------


def refused(capsys, *words):
    code = trtexec.main([*map(str, words)])
    said = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(said) == 1
    return said[0]


def test_a_missing_binary_is_refused(tmp_path, capsys):
    assert "is no program" in refused(capsys, "--trtexec", tmp_path / "nothing")
    assert "is no program" in refused(capsys, "--trtexec", tmp_path)


def test_another_program_is_refused(capsys):
    assert "names no version" in refused(capsys, "--trtexec", "/bin/echo")


def test_a_machine_without_a_gpu_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trtexec.nvml, "inventory", tuple)
    assert "no NVIDIA GPU" in refused(capsys, "--trtexec", program(tmp_path))
    assert not list(tmp_path.glob("results*"))


def test_so_is_one_without_tensorrt(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trtexec.nvml, "inventory", lambda: (Gpu(0, "GPU-1", "H200"),))
    monkeypatch.setattr(trtexec.library, "installed", lambda *edition: None)
    assert "needs the package tensorrt" in refused(capsys, "--trtexec", program(tmp_path))


@pytest.mark.parametrize(
    ("number", "version"),
    [(8600, "8.6.0"), (8601, "8.6.1"), (100300, "10.3.0.26"), (101303, "10.13.3.9")],
)
def test_the_version_is_that_of_the_package_or_refused(tmp_path, number, version):
    tool = trtexec.find_tool(program(tmp_path, number))
    trtexec.refuse_other_version(tool, version)
    with pytest.raises(Refused, match="only with the version that built them"):
        trtexec.refuse_other_version(tool, "8.5.3")


@pytest.mark.parametrize(
    "words",
    [
        ["--models", "lenett"],
        ["--precisions", "fp17"],
        ["engine.streems=2"],
        ["x=1"],
        ["engine.streams=many"],
        ["engine.best_batch=1000"],
    ],
)
def test_what_raybench_would_refuse_is_refused_before_anything_is_built(
    tmp_path, capsys, monkeypatch, installed, words
):
    monkeypatch.setattr(trtexec, "ready", lambda path: (Tool(path, (8, 6, 0)), {}))
    monkeypatch.setattr(trtexec, "build", lambda *_: pytest.fail("it built"))
    assert words[-1].split("=")[0].removeprefix("engine.") in refused(
        capsys, "--trtexec", tmp_path, *words
    )


def test_unknown_words_are_named(capsys):
    with pytest.raises(SystemExit):
        trtexec.main(["--trtexec", "x", "--transfers", "on,of"])
    assert "'on,of' has an unknown value" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        trtexec.main(["--trtexec", "x", "resnet50"])
    assert "'resnet50' is no KEY=VALUE" in capsys.readouterr().err


def test_a_repeat_alone_has_no_interval_so_two_are_the_least(tmp_path, capsys):
    with pytest.raises(SystemExit):
        trtexec.main(["--trtexec", str(program(tmp_path)), "--repeats", "1"])
    assert "2 or more" in capsys.readouterr().err


# --- command lines --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "transfers", "flags"),
    [
        ((8, 6, 0), True, {"--useCudaGraph", "--useSpinWait"}),
        ((10, 13, 3), False, {"--useCudaGraph", "--useSpinWait", "--noDataTransfers"}),
        ((11, 1, 0), True, {"--includeDataTransfers"}),
        ((11, 1, 0), False, set()),
    ],
)
def test_every_version_runs_graphs_and_spins_and_copies_when_asked(version, transfers, flags):
    cell = Cell("lenet", "fp16", 8, transfers)
    words = trtexec.command(Tool(Path("/t"), version), Path("/p"), {"x": (8, 1, 28, 28)}, cell)
    assert words[:3] == ["/t", "--loadEngine=/p", "--shapes=x:8x1x28x28"]
    assert set(words[3:]) == flags


def test_the_shapes_are_those_of_the_network_at_the_batch():
    (shape,) = trtexec.input_shapes(Cell("lenet", "int8", 8, transfers=True)).values()
    assert shape == (8, 1, 32, 32)


def test_raybench_gets_the_same_points_and_the_options_of_the_plan(tmp_path, installed):
    options = trtexec.arguments().parse_args(
        ["--trtexec", "x", "--models", "lenet", "--precisions", "int8", "--seconds", "2",
         "engine.streams=2", "engine.int8_rest=fp16", "cluster.dashboard=false"]
    )  # fmt: skip
    wanted = trtexec.wanted_of(options)
    points = trtexec.plan_of(
        trtexec.raybench_words(Group("lenet", "int8"), wanted, tmp_path)
    ).points
    assert {(p.batch_size, p.transfers, p.inflight) for p in points} == {
        (batch, way, 4) for batch in (1, 8, 128) for way in (True, False)
    }
    engine = dict(points[0].engine_options)
    assert (engine["largest_batch"], engine["int8_rest"], engine["streams"]) == (128, "fp16", 2)


# --- what trtexec prints --------------------------------------------------------------------------


@pytest.mark.parametrize("number", [8600, 101303, 110100])
@pytest.mark.parametrize("transfers", [True, False])
def test_its_figures_are_read(tmp_path, cache, number, transfers):
    sha256 = plan_in(cache)
    cell = Cell("lenet", "fp16", 8, transfers)
    tool = trtexec.find_tool(program(tmp_path, number))
    row = trtexec.theirs(tool, Wanted((cell,), 1.0), cell, sha256)
    assert (row["items_per_s"], row["compute_ms"], row["enqueue_ms"]) == (800.0, 0.4975, 0.0125)
    assert row["plan_sha256"] == sha256
    assert "--warmUp=500 --duration=1" in row["command"]


def test_streams_are_those_of_raybench(tmp_path, cache):
    tool, wanted = trtexec.find_tool(program(tmp_path)), Wanted((CELL,), 1.0, {"streams": 2})
    assert trtexec.theirs(tool, wanted, CELL, plan_in(cache))["items_per_s"] == 1600.0


def test_other_settings_than_asked_for_are_no_comparison(tmp_path, cache):
    tool, sha256 = trtexec.find_tool(program(tmp_path, graphs=False)), plan_in(cache)
    with pytest.raises(Failed, match="CUDA Graph was disabled, not enabled"):
        trtexec.theirs(tool, Wanted((CELL,), 1.0), CELL, sha256)


def test_a_plan_that_is_not_raybenchs_is_no_comparison(cache):
    sha256 = plan_in(cache)
    assert trtexec.plan_file(sha256).read_bytes() == PLAN
    with pytest.raises(Failed, match="no plan"):
        trtexec.plan_file("0" * 64)
    trtexec.plan_file(sha256).write_bytes(PLAN + b"more")
    with pytest.raises(Failed, match="no plan"):
        trtexec.plan_file(sha256)


def test_its_error_is_repeated(tmp_path, cache):
    tool = Tool(program(tmp_path, fails=True), (8, 6, 0))
    with pytest.raises(Failed, match="the plan is of another device"):
        trtexec.theirs(tool, Wanted((CELL,), 1.0), CELL, plan_in(cache))


# --- turns and ratios -----------------------------------------------------------------------------


def test_the_turns_are_a_b_b_a():
    groups = [Group("a", "fp16"), Group("b", "fp16")]
    taken = list(trtexec.turns(groups, 4))
    for group in groups:
        whose = "".join(who[0] for _, other, who in taken if other == group)
        assert whose == "rttrrttr"
    assert trtexec.turns(groups, 1).__next__()[2] == OURS  # whose rows name the plan


def measured(monkeypatch, tmp_path, rates, sha256, repeats):
    """Compare a raybench that gives these rates, one after another, with the program."""
    turns = iter(rates)
    monkeypatch.setattr(
        trtexec, "ours",
        lambda group, wanted: {CELL: {"items_per_s": next(turns), "compute_ms": None,
                                      "plan_sha256": sha256}},
    )  # fmt: skip
    noted = []
    tool, wanted = trtexec.find_tool(program(tmp_path)), Wanted((CELL,), 1.0)
    comparison = Comparison(tool, wanted, noted.append)
    comparison.run(repeats, float("inf"))
    assert noted == comparison.rows
    return wanted, comparison.rows


def test_ratios_are_of_pairs_and_the_lowest_comes_last(monkeypatch, tmp_path, cache, capsys):
    rates = [800.0, 808.0, 804.0, 796.0]
    wanted, rows = measured(monkeypatch, tmp_path, rates, plan_in(cache), 4)
    assert [row["tool"] for row in rows] == [OURS, THEIRS, THEIRS, OURS] * 2
    assert trtexec.report(wanted, rows, {}) == 0
    *_, lowest, last = capsys.readouterr().out.splitlines()
    assert lowest.startswith("lowest ratio: 1.0025 [0.9")
    result = json.loads(last)
    assert result["ok"]
    assert result["lowest"]["lo"] < 1 < result["lowest"]["hi"]
    assert result["lowest"]["pairs"] == 4


def test_an_interval_below_1_is_a_failure(monkeypatch, tmp_path, cache, capsys):
    rates = [760.0, 761.0, 762.0]
    wanted, rows = measured(monkeypatch, tmp_path, rates, plan_in(cache), 3)
    assert trtexec.report(wanted, rows, {}) == 1
    assert "1 of 1 ratios lie below 1" in capsys.readouterr().out


def test_a_plan_that_changes_between_repeats_is_no_pair(monkeypatch, tmp_path, cache):
    _, rows = measured(monkeypatch, tmp_path, [800.0], plan_in(cache), 1)
    hashes = iter([rows[0]["plan_sha256"], "1" * 64])
    monkeypatch.setattr(
        trtexec, "ours",
        lambda group, wanted: {CELL: {"items_per_s": 800.0, "compute_ms": 0.5,
                                      "plan_sha256": next(hashes)}},
    )  # fmt: skip
    comparison = Comparison(trtexec.find_tool(program(tmp_path)), Wanted((CELL,), 1.0), rows.append)
    comparison.run(2, float("inf"))
    assert "another plan" in comparison.rows[-1]["reason"]
    assert trtexec.compare(CELL, comparison.rows)["pairs"] == 1


def test_a_point_without_a_figure_is_named_and_nothing_is_made_up(
    monkeypatch, tmp_path, cache, capsys
):
    monkeypatch.setattr(trtexec, "ours", lambda group, wanted: {CELL: {"reason": "out of memory"}})
    wanted = Wanted((CELL,), 1.0)
    comparison = Comparison(trtexec.find_tool(program(tmp_path)), wanted, [].append)
    comparison.run(2, float("inf"))
    assert trtexec.report(wanted, comparison.rows, {}) == 1
    said = capsys.readouterr().out
    assert "raybench, lenet fp16 batch 8 transfers on: out of memory" in said
    assert json.loads(said.splitlines()[-1])["ratios"] == []


def test_nothing_begins_after_the_budget(monkeypatch, tmp_path):
    monkeypatch.setattr(trtexec, "ours", lambda group, wanted: pytest.fail("it began"))
    comparison = Comparison(trtexec.find_tool(program(tmp_path)), Wanted((CELL,), 1.0), print)
    comparison.run(2, 0.0)
    assert comparison.rows == []


# --- whole program --------------------------------------------------------------------------------


@pytest.fixture
def gpu_here(monkeypatch, installed):
    monkeypatch.setattr(trtexec.nvml, "inventory", lambda: (Gpu(0, "GPU-1", "H200"),))
    monkeypatch.setattr(trtexec.library, "load", lambda: SimpleNamespace(__version__="8.6.0"))
    monkeypatch.setattr(trtexec, "build", lambda *_: None)


def test_all_runs_are_kept_over_several_comparisons(tmp_path, monkeypatch, cache, capsys, gpu_here):
    row = {"items_per_s": 101.0, "compute_ms": 0.5, "plan_sha256": plan_in(cache)}
    monkeypatch.setattr(trtexec, "ours", lambda g, wanted: dict.fromkeys(wanted.of(g), row))
    words = ["--trtexec", program(tmp_path), "--out", tmp_path / "out", "--models", "lenet",
             "--precisions", "fp16", "--batches", "1", "--repeats", "2"]  # fmt: skip
    for runs in (1, 2):
        assert trtexec.main([*map(str, words)]) == 0
        lines = (tmp_path / "out" / "runs.jsonl").read_text().splitlines()
        assert len(lines) == runs * 2 * 2 * 2
    assert capsys.readouterr().out.count("lowest ratio: 1.0100 [1.0100, 1.0100]") == 2


def test_ctrl_c_prints_what_was_measured(tmp_path, monkeypatch, cache, capsys, gpu_here):
    def interrupted(tool, wanted, cell, sha256):
        raise KeyboardInterrupt

    row = {"items_per_s": 101.0, "compute_ms": 0.5, "plan_sha256": plan_in(cache)}
    monkeypatch.setattr(trtexec, "ours", lambda g, wanted: dict.fromkeys(wanted.of(g), row))
    monkeypatch.setattr(trtexec, "theirs", interrupted)
    words = ["--trtexec", program(tmp_path), "--out", tmp_path / "out", "--models", "lenet"]
    assert trtexec.main([*map(str, words)]) == 130
    assert "have no pair" in capsys.readouterr().out


def test_a_program_that_does_not_end_is_a_failure():
    with pytest.raises(Failed, match=r"did not end in 0 s"):
        trtexec._output(["sleep", "600"], 0.1)


def test_what_is_ended_is_interrupted_first_so_that_it_cleans_up():
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(130))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    words = [sys.executable, "-c", script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        trtexec._end(process)
    assert process.returncode == 130


def test_trtexec_runs_with_the_libraries_of_the_package(tmp_path, monkeypatch):
    for name in ("tensorrt", "tensorrt_libs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/before")
    trtexec.use_libraries_of_the_package()
    expected = [str(tmp_path / "tensorrt"), str(tmp_path / "tensorrt_libs"), "/before"]
    assert os.environ["LD_LIBRARY_PATH"].split(os.pathsep) == expected


def test_with_several_gpus_both_see_the_same_one(tmp_path, monkeypatch, gpu_here):
    gpus = (Gpu(0, "GPU-1", "H200"), Gpu(1, "GPU-2", "H100"))
    monkeypatch.setattr(trtexec.nvml, "inventory", lambda: gpus)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")
    _, facts = trtexec.ready(program(tmp_path))
    assert facts["gpu"] == "H100"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"

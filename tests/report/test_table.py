"""The table as text, to the letter."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from raybench.analysis.scaling import scaling
from raybench.report.formatting import percent
from raybench.report.terminal.table import print_table
from raybench.results.store import build

TIMES = "\N{MULTIPLICATION SIGN}"
GOOD: dict[str, Any] = {
    "run_id": "01A",
    "trial": 0,
    "environment_id": "e1",
    "status": "ok",
    "verdict": "stable",
    "model": "resnet50",
    "precision": "fp32",
    "batch_size": 8,
    "engine": "tensorrt",
    "engine_version": "10.0",
    "device": "NVIDIA H200",
    "inflight": 2,
    "transfers": True,
    "simulated": False,
    "workers": 1,
}
LOST = {"verdict": None, "device": None, "engine_version": None}


def rows(*some):
    whole = [{**GOOD, "point_id": str(k), **row} for k, row in enumerate(some)]
    return scaling(build("trials", whole, {}))


def printed(*some, **options) -> str:
    out = io.StringIO()
    print_table(rows(*some), out, **options)
    return out.getvalue()


GOLDEN = """\
batch_size 8 · engine tensorrt · engine_version 10.0 · device NVIDIA H200 · inflight 2 · transfers on

model      precision   workers         items/s   speedup   efficiency   p99 ms   x fp32   verdict
───────────────────────────────────────────────────────────────────────────────────────────────────────
resnet50   fp32              1   1,000 ± 0.5 %    1.000x      100.0 %    1.234            ✓ stable
resnet50   fp32              2           1,990    1.990x       99.5 %                     ~ unstable
resnet50   int8              1           2,500    1.000x      100.0 %            2.500x   ? unverified
resnet50   int8              2                                                            ✗ worker_died
resnet50   int8              4                                                            ∅ infeasible

speedup: against 1 worker of the same series
efficiency: speedup over that of ideal scaling
x fp32: items/s against the same point in fp32
p99 ms: latency of a batch, median over trials
±: 95 % CI within one trial; excludes run-to-run variation

resnet50, fp32: 2 workers give 1.990 times the throughput of 1 (99.5 % of ideal); no confidence interval with one trial.

resnet50, int8, 2 workers: worker_died. The process ended. Run again with rerun=failed.
resnet50, int8, 4 workers: infeasible. 4 workers need 4 GPUs.

Rows  results/
Next  preset=standard
      trials=3
"""


def test_the_table_to_the_letter():
    text = printed(
        {"items_per_s": 1000.0, "items_per_s_lo": 995.0, "items_per_s_hi": 1005.0,
         "latency_p99_ms": 1.2341},
        {"workers": 2, "items_per_s": 1990.0, "verdict": "unstable"},
        {"precision": "int8", "items_per_s": 2500.0, "verdict": "unverified"},
        {"precision": "int8", "workers": 2, "status": "worker_died", **LOST,
         "reason": "The process ended. Run again with rerun=failed."},
        {"precision": "int8", "workers": 4, "status": "infeasible", **LOST,
         "reason": "4 workers need 4 GPUs."},
        where="results/",
        next_steps=["preset=standard", "trials=3"],
    )  # fmt: skip
    assert text.replace(TIMES, "x") == GOLDEN


def test_intervals_between_trials_are_distinguished_from_those_within():
    text = printed(
        *({"point_id": "a", "trial": k, "items_per_s": 100.0 + k} for k in range(3)),
        *({"point_id": "b", "trial": k, "items_per_s": 200.0 + k, "workers": 2} for k in range(3)),
    )
    assert "101.0 ± 2.5 %" in text
    assert f"1.99{TIMES} [1.95, 2.03]" in text
    assert "±: 95 %, between 3 trials" in text
    assert "within one trial" not in text


def test_half_an_interval_as_wide_as_its_value_has_no_figure_in_percent():
    assert [percent(half, 1) for half in (0.005, 1.0, 1.01)] == ["0.5 %", "100.0 %", "> 100 %"]


def test_an_interval_wider_than_its_value_is_written_by_its_ends():
    text = printed(
        *(
            {"point_id": "a", "trial": k, "items_per_s": rate}
            for k, rate in enumerate((50.0, 100.0, 180.0))
        ),
        {"point_id": "b", "workers": 2, "items_per_s": 200.0},
    )
    (line,) = [line for line in text.splitlines() if line.startswith("resnet50         1 ")]
    assert re.search(r" 110\.0 \[\d+\.?\d*, \d+\] ", line)
    assert "± or [from, to]: 95 %, between 3 trials" in text


def test_an_engine_version_is_that_of_its_engine():
    text = printed(
        {"items_per_s": 1.0, "engine_version": "10.0"},
        {"items_per_s": 2.0, "engine": "openvino", "engine_version": "2026.4"},
    )
    assert "engine_version tensorrt 10.0, openvino 2026.4 ·" in text.replace(
        "openvino 2026.4, tensorrt 10.0", "tensorrt 10.0, openvino 2026.4"
    )


def test_a_pipe_gets_every_line_whole(tmp_path):
    long = "It failed because " + "of this and that " * 60
    assert f". {long.strip()}\n" in printed({"status": "failed", "reason": long.strip(), **LOST})


def test_each_simulated_row_says_so():
    text = printed(
        {"items_per_s": 100.0, "simulated": True},
        {"items_per_s": 200.0, "workers": 2, "simulated": True},
        {"workers": 4, "status": "failed", "reason": "No.", "simulated": True, **LOST},
        {"items_per_s": 90.0, "engine": "openvino"},
    )
    lines = [line for line in text.splitlines() if line.startswith("resnet50  ")]
    assert [line.endswith(" SIMULATED") for line in lines] == [False, True, True, True]
    assert "SIMULATED: timings come from a model, not from hardware" in text
    assert "SIMULATED" not in printed({"items_per_s": 90.0})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"items_per_s": 1.0}, "✓ stable"),
        ({"items_per_s": 1.0, "verdict": "unverified"}, "? unverified"),
        ({"items_per_s": 1.0, "verdict": "unstable"}, "~ unstable"),
        ({"status": "out_of_memory", **LOST}, "∅ out_of_memory"),
        ({"status": "unsupported", **LOST}, "∅ unsupported"),
        ({"status": "timeout", **LOST}, "✗ timeout"),
        ({"status": "interrupted", **LOST}, "✗ interrupted"),
    ],
)
def test_a_verdict_is_a_glyph_and_a_word(row, words):
    assert any(line.endswith(words) for line in printed(row).splitlines())


def test_names_are_no_markup():
    names = ["net[v2].onnx", "/data/[/b]/a.onnx", "[red]x", ":smile:"]
    text = printed(*({"model": name, "items_per_s": 1.0} for name in names))
    for name in names:
        assert f"\n{name} " in text
    assert "why [bold]not[/bold]" in printed({"status": "failed", "reason": "why [bold]not[/bold]"})


def test_what_a_lost_row_never_learnt_makes_no_column():
    text = printed(
        {"items_per_s": 1.0},
        {"precision": "int8", "status": "unsupported", "reason": "No.", **LOST},
    )
    assert "device NVIDIA H200" in text.splitlines()[0]
    assert "engine_version" not in text.split("model", 1)[1]


def test_real_inputs_are_named_and_synthetic_ones_only_beside_them():
    cats = "file cats.npz; 24 items; sha256 0123456789ab"
    synthetic, real = {"inputs": "synthetic"}, {"inputs": cats}
    assert "inputs" not in printed(synthetic)
    assert f"inputs {cats}" in printed(real)
    both = printed(synthetic, real)
    assert "synthetic" in both
    assert "cats.npz" in both


def test_a_memory_limit_is_distinguished_from_none():
    text = printed({"items_per_s": 1.0}, {"items_per_s": 2.0, "memory_limit_bytes": 24 << 30})
    assert "memory_limit_bytes" in text
    assert "24,576 MiB" in text


def test_trials_that_failed_together_are_counted():
    failed = {"point_id": "a", "status": "timeout", "reason": "Too slow.", **LOST}
    assert "resnet50: timeout (2 trials). Too slow." in printed(failed, {**failed, "trial": 1})


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_file_that_knows_no_unicode_loses_no_row(encoding):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    bad = {"workers": 2, "status": "failed", "reason": "It said “no” → 失败", **LOST}
    print_table(rows({"items_per_s": 1000.0, "model": "rés→net"}, bad), file)
    file.flush()
    text = raw.getvalue().decode(encoding)
    assert "+ stable" in text
    assert "x failed" in text
    assert "It said " in text


def test_no_control_codes_but_to_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert "\x1b" not in printed({"items_per_s": 1.0})
    for name in ("NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Terminal()
    print_table(rows({"items_per_s": 1.0}), out)
    assert "\x1b[32m✓ stable" in out.getvalue()


def test_a_narrow_terminal_does_without_some_columns_and_says_which(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "72")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    some = [{"items_per_s": 100.0, "latency_p50_ms": 1.0, "latency_p99_ms": 2.0, "precision": p,
             "workers": n, "fidelity_sqnr_db": 40.0} for p in ("fp32", "int8") for n in (1, 2)]  # fmt: skip
    print_table(rows(*some), out)
    text = re.sub("\x1b[^m]*m", "", out.getvalue())
    assert "left out for want of width: p50 ms" in text
    assert "…" not in text
    assert "p99 ms" in text
    assert max(map(len, text.splitlines()[2:9])) <= 72


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 120, 200])
def test_names_stay_readable_at_any_width(monkeypatch, width):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    path = "/models/of/a/long/path/resnet50.onnx"
    some = [{"items_per_s": 100.0, "latency_p99_ms": 2.0, "precision": p, "workers": n, "engine": e,
             "model": path} for p in ("fp32", "int8") for n in (1, 2) for e in ("tensorrt", "openvino")]  # fmt: skip
    out = Terminal()
    print_table(rows(*some), out)
    text = re.sub("\x1b[^m]*m", "", out.getvalue())
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    whole = re.sub(r"\s", "", text)
    for word in ("tensorrt", "openvino", "int8", "resnet50.onnx"):
        assert word in whole


def test_nothing_is_said_of_nothing():
    out = io.StringIO()
    print_table(rows(), out)
    assert out.getvalue() == "No rows.\n"


def test_the_slowest_worker_what_its_devices_do_alone_and_what_bounds_reach_the_terminal():
    flags = {"flags": ["imbalance"], "imbalance": 0.25}
    trials = [
        {**GOOD, "point_id": "a", "items_per_s": 1000.0},
        {**GOOD, "point_id": "b", "items_per_s": 800.0, "run_id": "01B"},
        {**GOOD, "point_id": "c", "workers": 2, "items_per_s": 1700.0, **flags},
    ]
    slots = [
        ("01A", "a", 0, 1000.0),
        ("01B", "b", 1, 800.0),
        ("01A", "c", 0, 950.0),
        ("01A", "c", 1, 750.0),
    ]
    workers = [
        {"run_id": run, "point_id": point, "trial": 0, "environment_id": "e1", "worker": gpu,
         "hostname": "n1", "gpu_index": gpu, "gpu_uuid": f"GPU-{gpu}", "items_per_s": rate}
        for run, point, gpu, rate in slots
    ]  # fmt: skip
    out = io.StringIO()
    print_table(scaling(build("trials", trials, {}), build("workers", workers, {})), out)
    text = out.getvalue().replace(TIMES, "x")
    assert "worker 1 on n1, GPU 1 (88.2 %)" in text
    assert "1.889x" in text  # 1700 over the mean of 1000 and 800
    assert "over alone: against the mean of the same devices each alone" in text
    assert "bound by slow_device: The fastest worker beat the slowest by 25.0 %; " in text


def test_an_int8_graph_that_is_not_nearly_whole_says_how_much_is_computed_in_8_bits():
    fp32 = {"items_per_s": 100.0, "quantised_macs_frac": 0.0}
    whole, part = (
        {"items_per_s": 200.0, "precision": "int8", "quantised_macs_frac": frac, "batch_size": size}
        for frac, size in ((0.97, 1), (0.62, 8))
    )
    assert "8-bit" not in printed(fp32, whole)
    text = printed(fp32, whole, part)
    assert re.findall(r"(?m)^resnet50.* (\d+ %) ", text) == ["62 %"]
    assert "8-bit MACs: part of the int8 graph's work" in text


def test_a_file_that_ran_as_it_is_is_not_compared_with_fp32():
    reduced = {"precision": "as_is", "model": "mine", "reduced_ops": ["MatMul:int8", "Mul:float16"]}
    text = printed({"items_per_s": 100.0}, {"items_per_s": 300.0, **reduced})
    assert f"{TIMES} fp32" not in text
    assert "as_is: a file that comes reduced, run unchanged" in text
    assert "  mine: MatMul:int8, Mul:float16\n" in text


def test_what_of_a_gpu_was_full_is_below_the_table_and_not_without_end():
    gpu = {"device_kind": "gpu", "items_per_s": 1000.0, "gpu_sm_frac": 0.9}
    few = printed(*({**gpu, "batch_size": b, "gpu_dram_frac": 0.91} for b in (1, 8)))
    assert "resnet50, batch 8: Device memory at 91 % of what it can." in few
    many = printed(*({**gpu, "batch_size": b, "gpu_dram_frac": 0.91} for b in range(1, 21)))
    assert many.count("Device memory at 91 %") == 8
    assert "and 12 more points: see the report" in many
    assert "Device memory" not in printed({**gpu, "device_kind": "cpu", "gpu_dram_frac": 0.91})

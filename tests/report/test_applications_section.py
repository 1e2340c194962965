"""The section on applications: in the report where a ceiling was measured, with the bound and its evidence."""

from __future__ import annotations

from helpers.results_folders import folder

from raybench.cli.main import main

CORE = {
    "device": "AMD EPYC",
    "device_kind": "cpu",
    "engine": "openvino",
    "precision": "fp32",
    "inflight": 1,
    "items_per_s_lo": None,
    "items_per_s_hi": None,
}
NEEDS = {"parameters": 25_000_000, "table_parameters": 0, "activations_per_item": 10_000_000,
         "input_bytes_per_item": 600_000, "output_bytes_per_item": 4000}  # fmt: skip
ROWS = (
    {"model": "gemm", "gflops_per_item": 4.294967296, "items_per_s": 55.0, "batch_size": 8},
    {"model": "copy", "items_per_s": 10_000.0, "batch_size": 128},
    {"model": "resnet50", "gflops_per_item": 8.0, "items_per_s": 25.0, "batch_size": 8, **NEEDS},
    {"model": "yolov8s", "gflops_per_item": 28.6, "items_per_s": 3.0, "batch_size": 1, **NEEDS},
)


def written(tmp_path, rows):
    made = [{**CORE, "point_id": row["model"], **row} for row in rows]
    source = folder(tmp_path / "results", made)
    assert main(["report", str(source), f"out={tmp_path / 'out'}"]) == 0
    return source, (tmp_path / "out" / "report.md").read_text("utf-8")


def test_a_report_with_ceilings_says_what_each_application_is_bound_by(tmp_path, capsys):
    source, text = written(tmp_path, ROWS)
    section = text.split("## Applications")[1].split("\n## ")[0]
    assert "Arithmetic: resnet50, batch 8" in section
    assert "Not determined: yolov8s, batch 1" in section
    assert "84.7 % of the 236 GFLOP/s of gemm in fp32" in section
    assert "results.layers=true" in section
    assert (tmp_path / "out" / "figures" / "applications-1.svg").exists()
    capsys.readouterr()
    assert main(["show", str(source)]) == 0
    lines = capsys.readouterr().out
    row = next(line for line in lines.splitlines() if line.startswith("  resnet50"))
    assert row.split()[-1] == "arithmetic"
    assert "not determined: yolov8s, batch 1. The time of each layer decides" in lines


def test_without_a_ceiling_there_is_no_such_section(tmp_path, capsys):
    source, text = written(tmp_path, ROWS[2:])
    assert "## Applications" not in text
    capsys.readouterr()
    assert main(["show", str(source)]) == 0
    assert "Applications" not in capsys.readouterr().out

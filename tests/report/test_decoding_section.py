"""The section on decoders: ladders, requests and where memory ends, in the report and below a table."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from helpers.results_folders import WITHOUT_NUMBER, folder

from raybench.cli.main import main

GPU = {"device": "NVIDIA H200", "device_kind": "gpu", "engine": "tensorrt", "precision": "fp16",
       "transfers": False, "items_per_s_lo": None, "items_per_s_hi": None}  # fmt: skip


def step(batch, rate, context=512, **row):
    return {**GPU, "model": "decoder_1b_step", "batch_size": batch, "context": context, "new_tokens": 128,
            "items_per_s": rate, "kv_cache_bytes": batch * context * 32768, **row}  # fmt: skip


def prefill(batch, rate):
    return {
        **GPU,
        "model": "decoder_1b_prefill",
        "batch_size": batch,
        "prompt": 128,
        "items_per_s": rate,
    }


ROWS = (
    prefill(1, 100.0), prefill(8, 400.0),
    step(1, 500.0), step(8, 3600.0), step(64, 20_000.0), step(8, 3300.0, 2048), step(8, 2800.0, 4096),
    {**step(256, None), **WITHOUT_NUMBER, "status": "out_of_memory", "reason": "It needs 160 GiB."},
)  # fmt: skip


def test_the_report_has_ladders_requests_and_the_end_of_memory(tmp_path, capsys):
    source = folder(tmp_path / "results", ROWS)
    out = tmp_path / "out"
    assert main(["report", str(source), f"out={out}"]) == 0
    section = (out / "report.md").read_text("utf-8").split("## Decoders")[1].split("\n## ")[0]
    assert "Batch 64 gives the most, 20,000 tokens/s, 40 times batch 1" in section
    assert "memory ends at batch 256" in section
    assert "A token takes 2.222 ms with a context of 512" in section
    assert "It needs 160 GiB." in section
    figures = sorted(path.name for path in (out / "figures").glob("decoding-*.svg"))
    assert figures == ["decoding-1.svg", "decoding-2.svg", "decoding-3.svg"]
    for name in figures:
        ET.parse(out / "figures" / name)
    capsys.readouterr()
    assert main(["show", str(source)]) == 0
    shown = capsys.readouterr().out
    assert "decoder_1b, batch 1: a prompt of 128 and 128 new tokens take 264.0 ms" in shown
    assert "decoder_1b, step, context of 512, 1 worker: Batch 64" in shown
    assert "decoder_1b, step, batch 8, 1 worker: A token takes" in shown
    assert "unknown" not in shown


def test_without_a_decoder_there_is_no_such_section(tmp_path):
    source = folder(tmp_path / "results", [{}])
    assert main(["report", str(source), f"out={tmp_path / 'out'}"]) == 0
    assert "## Decoders" not in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_the_best_point_by_tokens_per_second(tmp_path, capsys):
    rows = [{**one, "tokens_per_s": one["items_per_s"]} for one in ROWS[2:5]]
    assert main(["show", str(folder(tmp_path / "r", rows)), "best=tokens_per_s"]) == 0
    shown = capsys.readouterr().out.splitlines()
    first = next(line for line in shown if line.strip().startswith("1 "))
    assert "20,000" in first

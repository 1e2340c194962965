"""Published figures beside rows: which stand beside which, and files of one's own."""

from __future__ import annotations

import pytest
from helpers.trial_tables import table, trials

from raybench.analysis.accelerators import accelerators, find
from raybench.analysis.published import MLPERF, beside_published, read_figures, shipped_figures
from raybench.cli.main import main
from raybench.errors import ConfigError
from raybench.results.store import Store

HEAD = "model,device,precision,batch_size,devices,items_per_s,source\n"


def rows(*more):
    return table(*(row for rates, factors in more for row in trials(rates, **factors)))


def on_t4(**factors):
    return {"model": "resnet50", "device": "Tesla T4", "precision": "int8", **factors}


def test_the_fastest_point_of_the_same_chip_and_precision_stands_beside_a_figure():
    here = rows(
        ([3000, 3010], on_t4(batch_size=32)),
        ([10000, 10040], on_t4(batch_size=64, workers=2)),
        ([9000, 9000], on_t4(precision="fp16")),
        ([7000, 7000], on_t4(model="googlenet")),
        ([8000, 8000], on_t4(device="Tesla P40")),
    )
    figure = read_figures(HEAD + "resnet50,T4,int8,256,1,6035.57,MLPerf v0.7\n", "own")
    (row,) = beside_published(here, figure).rows
    assert row.here_per_device.value == pytest.approx(5010)
    assert row.ratio.value == pytest.approx(5010 / 6035.57)
    assert row.ratio.lo < row.ratio.value < row.ratio.hi
    assert (row.here_batch_size, row.here_devices) == (64, 2)


def test_a_figure_of_several_devices_counts_per_device_and_without_precision_with_any():
    here = rows(([90, 90], on_t4(device="NVIDIA H200", precision="fp16")))
    figure = read_figures(HEAD + "resnet50,H200 SXM,,,8,800,somewhere\n", "own")
    answer = beside_published(here, figure)
    (row,) = answer.rows
    assert (row.published_per_device, row.ratio.value) == (100, pytest.approx(0.9))
    assert row.here_precision == "fp16"
    assert "Where the source does not say the precision" in answer.missing[0]


def test_figures_without_a_row_are_counted():
    answer = beside_published(rows(([90], on_t4())), shipped_figures(MLPERF))
    assert [row.published.device for row in answer.rows] == ["T4"]
    assert answer.missing[0].startswith("8 figures of 9 have no row")


def test_the_shipped_figures_name_chips_that_exist_and_sources():
    names = {chip.name for chip in accelerators()}
    for figure in shipped_figures(MLPERF):
        assert figure.device in names or find(figure.device) is not None
        assert figure.source.startswith("MLPerf Inference v")
        assert figure.software


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model,device\n", "lacks items_per_s, source"),
        (HEAD.replace("model", "model,colour"), "has 'colour'"),
        (HEAD, "has no figure"),
        (HEAD + "resnet50,T4,int8,256,1,,x\n", "line 2, has no items_per_s"),
        (HEAD + "resnet50,T4,int8,256,1,fast,x\n", "items_per_s is 'fast', not a positive number"),
        (HEAD + "resnet50,T4,int8,2.5,1,9,x\n", "batch_size is '2.5'"),
        (HEAD + "resnet50,T4,int8,256,1,nan,x\n", "items_per_s is 'nan'"),
        (HEAD + "resnet50,T4,int8,256,1,9,x,y\n", "has more values than columns"),
    ],
)
def test_a_file_that_is_no_table_of_figures_is_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        read_figures(text, "own.csv")


@pytest.fixture
def results(tmp_path):
    run = Store(tmp_path / "results").start_run({})
    row = {
        "status": "ok",
        "items_per_s": 5000.0,
        "workers": 1,
        "batch_size": 8,
        "engine": "tensorrt",
    }
    run.write_point("p", 0, trials={**row, **on_t4()})
    return str(tmp_path / "results")


def test_show_prints_figures_with_their_source(results, capsys):
    assert main(["show", results, "reference=mlperf"]) == 0
    out = capsys.readouterr().out
    assert "resnet50, T4, int8, batch 256" in out
    assert "0.828" in out
    assert "T4: MLPerf Inference v0.7, closed/NVIDIA/results/T4x1_TRT; TensorRT 7.2" in out
    for form in ("markdown", "json", "csv"):
        assert main(["show", results, "reference=mlperf", f"format={form}"]) == 0
        assert "6035.57" in (said := capsys.readouterr().out) or "6,036" in said


def test_show_takes_a_file_and_refuses_what_it_cannot_use(results, tmp_path, capsys):
    own = tmp_path / "own.csv"
    own.write_text(HEAD + "resnet50,Tesla T4,int8,8,1,4000,our own lab\n")
    assert main(["show", results, f"reference={own}"]) == 0
    assert "1.250" in capsys.readouterr().out
    for words in (["reference=nowhere.csv"], ["reference=mlperf", "best=items_per_s"]):
        assert main(["show", results, *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1

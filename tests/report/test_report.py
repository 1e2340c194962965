"""The report as a reader finds it: what it says, what it marks, what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.results_folders import WITHOUT_NUMBER, folder, study_folder

from raybench.cli.main import main
from raybench.machine.devices import declared_gpu
from raybench.report.build import report

TIMES = "\N{MULTIPLICATION SIGN}"
SECTIONS = ["Verdicts", "Key table", "Scaling", "Precision", "Batch", "Devices", "Evidence",
            "Environment", "Methods"]  # fmt: skip
NASTY = '<script>alert("x")</script> & $\\alpha$ `|*_</td>'
VOID = {"meta", "link", "input", "br", "wbr"}


class Outline(HTMLParser):
    """Texts of the page by element; asserts that every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str, str | None]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.texts.setdefault(tag, []).append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts[tag][-1] += data


def written(source, out, *words):
    assert main(["report", str(source), f"out={out}", *words]) == 0
    return (out / "report.html").read_text("utf-8"), (out / "report.md").read_text("utf-8")


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """A report of three trials each of 1, 2 and 4 workers, with a simulated, a capped and an
    unstable one among them: its folder, page and Markdown."""
    rows = []
    config = json.dumps({"measure": {"target": 0.005, "min_s": 30.0, "max_s": 120.0,
                                     "looks_in_a_row": 2, "warmup_agree": 0.005}})  # fmt: skip
    for workers, model, more in (
        (1, "resnet50", {}),
        (2, "resnet50", {}),
        (4, "resnet50", {"verdict": "unstable", "flags": ["drift"]}),
        (1, "alexnet", {"simulated": True}),
        (2, "alexnet", {"simulated": True}),
        (1, "vit_b16", {"memory_limit_bytes": 24 << 30}),
        (2, "vit_b16", {"memory_limit_bytes": 24 << 30}),
    ):
        rows += [
            {"point_id": f"{model}{workers}", "trial": k, "workers": workers, "model": model,
             "items_per_s": 1000.0 * workers * (1 + 0.002 * k), "config_json": config, **more}
            for k in range(3)
        ]  # fmt: skip
    base = tmp_path_factory.mktemp("trials")
    out = base / "out"
    return out, *written(folder(base / "results", rows, gauges=True), out)


def test_the_page_has_its_sections_in_order_and_its_figures_as_files(trials):
    out, html, text = trials
    assert Outline(html).texts["h2"] == SECTIONS
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    names = re.findall(r'<figure id="([^"]+)"', html)
    assert {"scaling-1", "scaling-2", "evidence-1"} <= set(names)
    for name in names:
        ET.parse(out / "figures" / f"{name}.svg")
        assert (out / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"](figures/{name}.png)" in text


def test_the_command_says_where_the_report_is(tmp_path, capsys):
    source = folder(tmp_path / "r", [{}])
    assert main(["report", str(source)]) == 0
    assert str(source / "report" / "report.html") in capsys.readouterr().out
    assert main(["show", str(source)]) == 0  # the report in it is no row


def test_nothing_on_the_page_comes_from_elsewhere(trials):
    _, html, _ = trials
    targets = [v or "" for _, name, v in Outline(html).attributes
               if name in ("src", "href", "action", "srcset", "xlink:href")]  # fmt: skip
    assert all(target.startswith(("#", "data:", "figures/")) for target in targets)
    assert "default-src 'none'" in html
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)", html)


def test_ids_are_unique_and_every_drawing_finds_its_own(trials):
    _, html, _ = trials
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    wanted = {*re.findall(r'href="#([^"]+)"', html), *re.findall(r"url\(#([^)]+)\)", html)}
    assert wanted <= set(ids)


def test_doubtful_points_are_marked_in_table_figure_and_caption(trials):
    _, html, text = trials
    figures = "\n".join(re.findall(r"<figure.*?</figure>", html, re.DOTALL))
    for words in ("simulated, no hardware", "memory limited", ">unstable<"):
        assert words in figures
    captions = " ".join(Outline(html).texts["figcaption"])
    assert "timings come from a formula" in captions
    assert re.search(r"Unstable: 1 of \d points", captions)
    assert html.count('<span class="tag">SIMULATED</span>') >= 2
    assert "MEMORY LIMITED" in html
    assert "~ unstable" in text
    assert "SIMULATED" in text


def test_every_caption_says_how_sure_it_is(trials):
    captions = Outline(trials[1]).texts["figcaption"]
    sure = re.compile(r"95 % intervals between 3 trials|95 %, between 3 trials")
    assert captions
    assert all(sure.search(caption) for caption in captions)


@pytest.mark.slow
def test_every_network_is_among_the_first_findings_at_its_fastest(tmp_path):
    rows = [
        {"model": model, "precision": precision, "batch_size": batch, "items_per_s": pace * batch}
        for model in ("alexnet", "googlenet", "resnet50")
        for precision, pace in (("fp32", 1.0), ("int8", 2.0 if model == "alexnet" else 3.0))
        for batch in (1, 2, 4, 8)
    ]
    _, text = written(folder(tmp_path / "results", rows), tmp_path / "out")
    first = [line for line in text.splitlines() if line.startswith("**Precision.** int8")][:3]
    assert [line.split(": ")[1].split(",")[0] for line in first] == [
        "alexnet", "googlenet", "resnet50"
    ]  # fmt: skip
    assert all("batch 8" in line for line in first)


def test_the_methods_are_those_of_the_rows(trials):
    methods = trials[2].split("## Methods")[1]
    for words in (
        "method version 1",
        "NVIDIA H200 with tensorrt 10.0",
        "driver 580.1",
        "2 batches submitted",
        r"until two successive windows agreed within 0.5 %, was discarded \(10 s\)",
        "within 0.5 % of the mean at 2 looks in a row, after 30 s at the earliest and 120 s",
        "preset standard",
        "repeated in 3 trials",
        "6 of 21 trials are simulated",
        "6 of 21 trials are measured with less memory",
    ):
        assert re.search(words, methods)
    assert "int8" not in methods


def test_names_are_no_markup(tmp_path):
    rows = [{"model": NASTY, "workers": n, "items_per_s": 100.0 * n, "device": "<b>GPU</b>\x00"}
            for n in (1, 2)]  # fmt: skip
    lost = {**WITHOUT_NUMBER, "model": NASTY, "workers": 4, "status": "failed", "reason": NASTY}
    source = folder(tmp_path / "r", [*rows, lost])
    html, text = written(source, tmp_path / "out", f"title={NASTY}")
    outline = Outline(html)
    assert len(outline.texts["script"]) == 1
    assert outline.texts["h1"] == [NASTY]
    assert "<b>GPU" not in html
    assert NASTY in outline.texts["td"]
    assert "node<1>" in outline.texts["td"]
    assert "\x00" not in html
    for file in (tmp_path / "out/figures").glob("*.svg"):
        ET.parse(file)
    table = "\n".join(line for line in text.splitlines() if line.startswith("| "))
    assert "<script" not in table.replace("\\<", "")


def test_the_numbers_of_a_column_stand_in_line(tmp_path):
    rates = [7.531, 64691.0, 812.25]
    source = folder(
        tmp_path / "r", [{"batch_size": k + 1, "items_per_s": r} for k, r in enumerate(rates)]
    )
    html, _ = written(source, tmp_path / "out")
    table = html[html.index('id="points"') : html.index('id="scaling"')]
    cells = re.findall(r'<td class="n">([^<]+)', table)
    assert {"7.53", "64,691.00", "812.25"} <= set(cells)


COSTS = {"gflops_per_item": 3.2, "items_per_j": 9.0}


def drawings(out):
    return {file.stem: file.read_text().replace("\n", "") for file in out.glob("figures/*.svg")}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The report of the study's own numbers, as unverified: page, Markdown, drawings by name."""
    base = tmp_path_factory.mktemp("study")
    source = study_folder(base / "r", verdict="unverified", **COSTS)
    return *written(source, base / "out"), drawings(base / "out")


@pytest.mark.parametrize(
    ("name", "ratios"),
    [
        ("study-1", ("2.894", "3.134")),
        ("study-2", ("1.999", "3.995")),
        ("study-3", ("1.991", "3.976")),
        ("study-4", ("1.532", "4.433")),
        ("study-5", ("1.624", "5.091")),
        ("precision-1", ("2.894", "3.134")),
        ("devices-1", ("1.532", "1.624")),
    ],
)
def test_the_bars_of_the_study_come_out_twice_beside_each_other(study, name, ratios):
    _, _, drawn = study
    for ratio in ratios:
        times = 2 if name.startswith("study") else 1
        assert drawn[name].count(f">{ratio}{TIMES}<") == times


def test_where_memory_ended_is_drawn_on_both_sides_of_figure_6(study):
    html, _, drawn = study
    assert drawn["study-6"].count("out of memory") == 2
    assert "out of memory" in drawn["batch-1"]
    order = [html.index(f'id="{name}"') for name in ("devices", "study", "study-6", "evidence")]
    assert order == sorted(order)


def test_the_findings_of_the_study_are_reproduced_by_its_own_numbers(study):
    html, text, _ = study
    assert html.count("2017 study, reproduced") == 6
    assert "here at batch 128 (the study: 128)" in html
    assert "not testable here" not in html.lower()
    for speedup in ("1.999", "3.995", "1.991", "3.976"):
        assert f"| {speedup} |" in text


@pytest.mark.slow
def test_every_figure_shows_every_mark(tmp_path, study):
    doubts = {"simulated": True, "memory_limit_bytes": 2**30, "verdict": "unstable"}
    written(study_folder(tmp_path / "r", **COSTS, **doubts), tmp_path / "out")
    doubtful, unverified = drawings(tmp_path / "out"), study[2]
    kinds = {re.sub(r"-\d$", "", name) for name in doubtful}
    assert kinds == {"scaling", "precision", "batch", "devices", "peak", "energy", "study",
                     "evidence"}  # fmt: skip
    assert doubtful.keys() == unverified.keys()
    for name, drawing in doubtful.items():
        for word in ("simulated, no hardware", "memory limited", "unstable"):
            assert word in drawing
            assert word not in unverified[name]
        assert "unverified" in unverified[name]
        assert "unverified" not in drawing


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "report takes results folders"),
        (["no/such/folder"], "no/such/folder"),
        (["{empty}"], "Give the folder that an experiment wrote"),
        (["{good}", "otu=x"], "Did you mean 'out'"),
        (["{good}", "by=devise"], "Did you mean 'device'"),
        (["{good}", "base=Tesla"], "Tesla"),
        (["{good}", "scaling.mode=big"], "Unknown scaling.mode 'big'. Known: strong, weak"),
        (["{good}", "usd_per_device_hour=-1"], "is not a price"),
        (["{good}", "out={good}/raybench.json"], "cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_with_exit_code_2(tmp_path, capsys, words, sentence):
    (tmp_path / "empty").mkdir()
    good = folder(tmp_path / "good", [{}])
    names = {"empty": tmp_path / "empty", "good": good}
    assert main(["report", *(word.format(**names) for word in words)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_only_failed_rows_are_a_report_of_their_reasons(tmp_path):
    rows = [{**WITHOUT_NUMBER, "status": "timeout", "reason": "Too slow. Wait longer."},
            {**WITHOUT_NUMBER, "status": "infeasible", "workers": 2, "reason": "2 workers need 2 GPUs."}]  # fmt: skip
    _, text = written(folder(tmp_path / "r", rows), tmp_path / "out")
    assert "No point has a number" in text
    assert "Too slow. Wait longer." in text
    assert "2 workers need 2 GPUs." in text
    assert "1 of 2 points failed" in text
    assert not list((tmp_path / "out/figures").iterdir())


def test_a_single_worker_count_and_no_baseline_say_what_to_measure(tmp_path):
    rows = [{"precision": "int8", "workers": 2}, {"precision": "fp16", "workers": 2}]
    source = folder(tmp_path / "r", rows, environment=False, count=0)
    _, text = written(source, tmp_path / "out")
    for gap in (
        "every series has a single number of workers. Measure workers=auto",
        "fp32",
        "every series has a single batch size",
        "No blocks are stored",
        "No facts are stored of environment e1",
    ):
        assert "**Missing.** " in text
        assert gap in text.split("## Scaling")[1]


def test_a_folder_that_cannot_be_read_is_named_beside_those_that_can(tmp_path, capsys):
    good = folder(tmp_path / "good", [{}])
    torn = folder(tmp_path / "torn", [{}])
    file = next(Path(torn).glob("trials/*/*.parquet"))
    file.write_bytes(file.read_bytes()[:100])
    assert main(["report", str(good), str(torn), f"out={tmp_path}/out"]) == 0
    assert "torn" in capsys.readouterr().err
    assert "torn" in (tmp_path / "out/report.md").read_text()


def test_the_same_folder_twice_counts_once(tmp_path):
    source = folder(tmp_path / "r", [{}])
    result = report([str(source), f"{source}/."], str(tmp_path / "out"))
    assert "1 point, 1 trial," in result.page.read_text()


def test_a_copy_of_a_folder_is_no_second_measurement(tmp_path, capsys):
    source = folder(tmp_path / "r", [{}], count=8)
    copy = shutil.copytree(source, tmp_path / "copy")
    html, _ = written(source, tmp_path / "out", str(copy))
    assert "1 point, 1 trial," in html
    assert "1 of 1 run of a folder stands in an earlier one too" in capsys.readouterr().err
    assert html.count("Evidence: ") == 1
    assert "1,000 items/s" in html


def test_figures_of_an_earlier_report_are_gone_and_those_of_others_stay(tmp_path):
    figures = tmp_path / "out/figures"
    figures.mkdir(parents=True)
    for name in ("study-1.svg", "mine.svg"):
        (figures / name).touch()
    written(folder(tmp_path / "r", [{}], count=0), tmp_path / "out")
    assert [file.name for file in figures.iterdir()] == ["mine.svg"]


@pytest.mark.parametrize(
    ("balancers", "said"),
    [
        (["shared"], "open loop (80 % load) the workers shared one queue with a seeded schedule"),
        (
            ["split"],
            "(80 % load) each worker served a seeded schedule of arrivals with an equal share",
        ),
        (["split", "shared"], "with an equal share of the rate, or the workers shared one queue"),
    ],
)
def test_the_methods_say_how_items_came_to_the_workers(tmp_path, balancers, said):
    rows = [{"load": "0.8", "balancer": name, "point_id": name, "workers": 2} for name in balancers]
    text = written(folder(tmp_path / "a", rows), tmp_path / "out")[1]
    assert said in text.split("## Methods")[1]


def test_the_methods_say_where_inputs_came_from(tmp_path):
    source = "file cats.npz; 24 items; sha256 0123456789ab"
    rows = [{"inputs": source, "precision": "int8"}]
    methods = written(folder(tmp_path / "a", rows), tmp_path / "out")[1].split("## Methods")[1]
    assert f"batches of real inputs ({source}) from a seeded pool" in methods
    assert "calibrated with items of the same source" in methods


def test_the_methods_claim_neither_a_bus_of_a_core_nor_a_warm_up_that_did_not_settle(tmp_path):
    rows = [{"device_kind": "cpu", "transfers": True, "flags": ["warmup_not_converged"]}]
    methods = written(folder(tmp_path / "a", rows), tmp_path / "out")[1].split("## Methods")[1]
    assert "bus" not in methods
    gpu = [{"device_kind": "gpu", "transfers": True}]
    methods = written(folder(tmp_path / "b", gpu), tmp_path / "out2")[1].split("## Methods")[1]
    assert "crossed the bus" in methods


def test_rows_of_different_methods_and_schemas_are_kept_apart(tmp_path):
    one = folder(tmp_path / "a", [{"method_version": 1}])
    other = folder(tmp_path / "b", [{"method_version": 2, "workers": 2}])
    rewrite_schema_version(other, 2)
    _, text = written(one, tmp_path / "out", str(other))
    assert "Rows of method versions 1, 2" in text
    assert "Rows of schema versions 1, 2" in text
    assert "every series has a single number of workers" in text


def rewrite_schema_version(root, version):
    """As a newer raybench might have left it: another version, a column more and one less."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in root.glob("trials/*/*.parquet"):
        rows = pq.read_table(file)
        at = rows.column_names.index("schema_version")
        rows = rows.set_column(at, rows.schema.field(at), pa.array([version], pa.int16()))
        rows = rows.append_column("of_the_future", pa.array(["x"])).drop(["advice"])
        pq.write_table(rows, file)


def test_the_report_says_what_part_of_an_int8_graph_is_int8_and_what_ran_as_it_is(tmp_path):
    rows = [
        {"point_id": "a", "items_per_s": 100.0, "quantised_macs_frac": 0.0},
        {"point_id": "b", "precision": "int8", "items_per_s": 150.0, "quantised_macs_frac": 0.62},
        {"point_id": "c", "precision": "as_is", "model": "mine.onnx", "items_per_s": 300.0,
         "reduced_ops": ["MatMul:float16"]},
    ]  # fmt: skip
    _, text = written(folder(tmp_path / "results", rows), tmp_path / "out")
    assert "int8 (62 % of MACs) runs at" in text
    assert "8-bit MACs" in text
    assert "ran unchanged (MatMul:float16), there is no fp32 graph" in text


def test_a_gpu_with_readings_has_a_roofline_and_says_what_was_full(tmp_path):
    h200 = {"device": "NVIDIA H200", "device_kind": "gpu", "precision": "fp16", "workers": 1,
            "gflops_per_item": 3.2, "dram_peak_bytes_per_s": 4.917e12}  # fmt: skip
    rows = [{**h200, "point_id": "measured", "batch_size": 128, "items_per_s": 50e3,
             "gpu_dram_frac": 0.91, "gpu_sm_frac": 0.99},
            {**h200, "point_id": "computed", "batch_size": 1, "items_per_s": 2e3,
             "parameters": 7_000_000, "input_shape": "x:1x3x224x224"}]  # fmt: skip
    html, text = written(folder(tmp_path / "r", rows), tmp_path / "out")
    drawing = (tmp_path / "out/figures/roofline-1.svg").read_text("utf-8")
    ET.fromstring(drawing)
    for words in ("fp16: 989.5 TFLOP/s", "traffic measured", "traffic computed"):
        assert words in drawing
    assert "Roofline of H200 SXM" in html
    assert "Device memory at 91 % of what it can (4,917 GB/s)." in text
    assert "The traffic of 1 point is computed" in text
    html, text = written(folder(tmp_path / "cpu", [{"device": "A CPU"}]), tmp_path / "out")
    assert "No roofline of A CPU: no printed peak in conf/accelerators.yaml, and no gemm" in text
    assert not (tmp_path / "out/figures/roofline-1.svg").exists()


def test_a_precision_that_is_slower_says_which_layers_or_how_to_see_them(tmp_path):
    rows = [
        {"precision": "fp16", "items_per_s": 400.0},
        {"precision": "int8", "items_per_s": 200.0},
    ]
    source = folder(tmp_path / "bare", rows)
    _, text = written(source, tmp_path / "first")
    assert "**Slower.** int8 (resnet50) has 0.500" in text
    assert "Measure both again with results.layers=true rerun=all" in text
    timed = [{"layers": {"conv_1": 1.0, "fc": 0.5}}, {"layers": {"conv_1": 3.0, "fc": 0.25}}]
    source = folder(tmp_path / "timed", [row | more for row, more in zip(rows, timed, strict=True)])
    page, text = written(source, tmp_path / "second")
    assert "take 1.7500 ms more together: conv\\_1 takes 2.0000 ms more." in text
    assert "| conv\\_1 | 3.0000 | 1.0000 | 2.0000 |" in text
    assert "results.layers" not in page


def test_the_report_shows_the_best_under_constraints_and_the_front(tmp_path):
    rows = [
        {"point_id": f"b{batch}", "trial": k, "batch_size": batch, "items_per_s": 100.0 * batch + k,
         "latency_p99_ms": 2.0 * batch, "items_per_j": batch / 10}
        for batch in (1, 4, 8, 32) for k in range(2)
    ]  # fmt: skip
    folder(tmp_path / "results", rows)
    where = "where=latency_p99_ms<10"
    page, text = written(tmp_path / "results", tmp_path / "out", "best=items_per_joule", where)
    assert "resnet50 at batch 4." in text
    assert "What to choose" in text
    assert (tmp_path / "out" / "figures" / "pareto-1.svg").exists()
    paragraphs = " ".join(Outline(page).texts["p"])
    assert "best items_per_j where latency_p99_ms<10: resnet50 at batch 4." in paragraphs
    written(tmp_path / "results", tmp_path / "out")  # without the question: no table of the best
    assert "Best." not in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_the_report_shows_load(tmp_path):
    bound = {"slo_ms": 15.0, "slo_percentile": 99.0}
    rows = []
    for workers in (1, 2):
        rows.append(
            {"point_id": f"c{workers}", "workers": workers, "items_per_s": 1000.0 * workers}
        )
        for share in (0.3, 0.5, 0.7):
            rate = share * 1000.0 * workers
            rows += [
                {"point_id": f"{workers}-{share}", "trial": trial, "workers": workers,
                 "items_per_s": rate, "offered_items_per_s": rate, "load": f"poisson({rate})",
                 "latency_p50_ms": 3 * share, "latency_p90_ms": 5 * share, "latency_p99_ms": 9 * share,
                 "slo_met": share < 0.7, "slo_violation_frac": 0.0, **bound}
                for trial in range(4 if share == 0.5 else 1)
            ]  # fmt: skip
    folder(tmp_path / "results", rows)
    page, text = written(tmp_path / "results", tmp_path / "out", "demand=800")
    assert "## Under load" in text
    assert "for 800/s: 2 devices" in text
    Outline(page)
    for name in ("bounded-1.svg", "latency-1.svg", "latency-2.svg"):
        assert (tmp_path / "out" / "figures" / name).exists()


def test_the_report_shows_a_power_ladder_and_what_a_rack_serves(tmp_path):
    rows = [
        {"point_id": f"p{watts}", "trial": k, "items_per_s": rate + k, "power_limit_w": float(watts),
         "j_per_item": watts / rate, "items_per_j": rate / watts, "avg_power_w": float(watts)}
        for watts, rate in ((300, 600.0), (500, 995.0), (700, 1000.0)) for k in range(3)
    ]  # fmt: skip
    folder(tmp_path / "results", rows)
    page, text = written(tmp_path / "results", tmp_path / "out", "rack_power_w=10000")
    assert "## Power limits" in text
    assert "Knee at 500 W" in text
    assert "At 10,000 W: 14 devices at 700 W give" in text
    assert "Hosts, switches and cooling are not included" in text
    paragraphs = " ".join(Outline(page).texts["p"])
    assert "Most items a joule at 300 W" in paragraphs
    assert (tmp_path / "out" / "figures" / "power-1.svg").exists()
    _, text = written(tmp_path / "results", tmp_path / "other")
    assert "At 10,000 W" not in text


def test_the_report_shows_how_many_cores_feed_a_device(tmp_path):
    rows = [
        {"point_id": f"c{cores}", "trial": k, "items_per_s": rate + k, "pipeline": "jpeg", "cores": cores,
         "decoded_per_s_per_core": 250.0, "input_wait_frac": waits, "engine_wait_frac": 0.1,
         "decoder": "simplejpeg 1.9.0"}
        for cores, rate, waits in ((1, 250.0, 0.75), (2, 500.0, 0.5), (4, 990.0, 0.0)) for k in range(3)
    ]  # fmt: skip
    rows += [
        {"point_id": "alone", "trial": k, "items_per_s": 1000.0 + k, "pipeline": "none"}
        for k in range(3)
    ]
    missing = {"pipeline": "jpeg", "cores": 8, "status": "infeasible", "verdict": None}
    rows += [{"point_id": "c8", "reason": "The node has 4 cores.", "items_per_s": None, **missing}]
    folder(tmp_path / "results", rows)
    page, text = written(tmp_path / "results", tmp_path / "out")
    assert "## Cores that feed a device" in text
    assert "4 cores feed one device: with them the device is the limit" in text
    assert "simplejpeg 1.9.0" in text
    assert "8 cores could not be measured: the node has fewer." in text
    assert "by the rate of 2 cores it needs" in " ".join(Outline(page).texts["p"])
    assert (tmp_path / "out" / "figures" / "feeding-1.svg").exists()


def test_the_title_says_declared_of_a_gpu_that_no_driver_confirms(tmp_path):
    source = folder(tmp_path / "results", [{"device": declared_gpu(None)}])
    page, text = written(source, tmp_path / "out")
    assert "on declared GPU" in page.partition("</h1>")[0]
    assert declared_gpu(None) not in page + text

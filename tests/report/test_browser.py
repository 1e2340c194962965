"""The page in a real browser, headless: where there is none the tests say so and are skipped."""

from __future__ import annotations

import os
import shutil

import pytest
from helpers.results_folders import WITHOUT_NUMBER, folder

from raybench.report.build import report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome")
LONG = "a_network_whose_name_is_longer_than_any_panel_or_column_has_room_for_opset18.onnx"


@pytest.fixture(scope="module")
def browser():
    where = os.environ.get("RAYBENCH_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if where is None:
        pytest.skip("no Chromium on this machine: make browser, or RAYBENCH_BROWSER=PATH")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=where, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    rows = [
        {"model": model, "workers": workers, "items_per_s": rate * workers, "precision": precision,
         "simulated": model == LONG, "fidelity_sqnr_db": 40.0}
        for model, rate in (("alexnet", 900.0), (LONG, 10000.0))
        for precision in ("fp32", "int8")
        for workers in (1, 2)
    ]  # fmt: skip
    rows += [
        {"model": "alexnet", "precision": "int8", "batch_size": 2**k, "items_per_s": 500.0 + 90 * k}
        for k in (0, 5, 6, 7, 8, 9, 10)
    ]
    rows += [
        {**WITHOUT_NUMBER, "model": "alexnet", "workers": 4, "status": "infeasible", "reason": "4 of 2 GPUs."},
        {**WITHOUT_NUMBER, "model": "alexnet", "precision": "int8", "batch_size": 2048, "reason": "Too large.",
         "status": "out_of_memory"},
        {"model": "alexnet", "device": "NVIDIA H100 80GB HBM3 with a long name", "items_per_s": 700,
         "environment_id": "e2"},
    ]  # fmt: skip
    rows += [
        {"model": "googlenet", "precision": precision, "batch_size": batch, "fidelity_sqnr_db": 54.3,
         "device": "NVIDIA H100 80GB HBM3", "items_per_s": 100.0 * pace * batch**0.4}
        for precision, pace in (("fp32", 1.0), ("fp16", 3.4), ("int8", 4.9))
        for batch in (1, 8, 32, 128, 1024)
    ]  # fmt: skip
    base = tmp_path_factory.mktemp("browser")
    return report([str(folder(base / "r", rows, gauges=True))], str(base / "out")).page.as_uri()


@pytest.fixture(scope="module")
def opened(browser, address):
    """The page, opened once; at the end nothing went wrong and nothing was asked of the network."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    wrong, asked = [], []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    assert wrong == []
    assert [url for url in asked if not url.startswith("data:")] == [address]


@pytest.fixture
def page(opened):
    """The page as it was when it was opened."""
    opened.set_viewport_size({"width": 1280, "height": 900})
    yield opened
    opened.fill("#points input", "")
    for select in opened.query_selector_all("#points select"):
        select.select_option("")


def column(page, title):
    """Texts of a column of the key table, rows that are shown only."""
    return page.evaluate(
        """title => {
          const table = document.querySelector('#points table');
          const at = [...table.tHead.rows[0].cells].findIndex(c => c.textContent.startsWith(title));
          return [...table.tBodies[0].rows].filter(r => r.offsetParent !== null)
            .map(r => r.cells[at].textContent);
        }""",
        title,
    )


def test_tables_sort_as_numbers_and_back(page):
    head = "#points th:has-text('items')"
    page.click(f"{head} button")
    rates = [float(text.replace(",", "")) for text in column(page, "items") if text]
    assert rates == sorted(rates)
    assert rates[-1] == 20000
    assert column(page, "items")[-2:] == ["", ""]  # unknown at the end either way
    page.click(f"{head} button")
    assert column(page, "items")[0].startswith("20,000")
    assert column(page, "items")[-2:] == ["", ""]
    assert page.get_attribute(head, "aria-sort") == "descending"


def test_tables_filter_by_words_and_by_factor(page):
    page.fill("#points input", "opset18 INT8")
    assert column(page, "model") == [LONG] * 2
    assert "2 of 33 rows" in page.inner_text("#points .tools")
    page.fill("#points input", "")
    page.select_option("#points select[aria-label=workers]", label="2")
    assert column(page, "workers") == ["2"] * 4


def test_the_theme_changes_page_and_figures(page):
    def tints():
        return page.evaluate(
            """() => [getComputedStyle(document.body).backgroundColor,
                 getComputedStyle(document.querySelector('figure svg text')).fill]"""
        )

    page.click("#theme")  # light
    before = tints()
    page.click("#theme")  # dark
    after = tints()
    page.click("#theme")  # as the system
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize("width", [1280, 700, 640, 400, 360])
def test_nothing_overflows_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


KINDS = {
    "one point": [{"model": LONG}],
    "scaling": [{"model": "alexnet", "workers": n, "items_per_s": 900.0 * n} for n in (1, 2, 4)],
    "batch ladder": [
        {"model": "alexnet", "precision": "int8", "batch_size": 2**k, "items_per_s": 500.0 + 90 * k}
        for k in range(8)
    ],
    "two engines": [
        {"model": LONG, "engine": engine, "workers": n, "items_per_s": 900.0 * n}
        for engine in ("openvino", "onnxruntime")
        for n in (1, 2)
    ],
    "failures only": [
        {**WITHOUT_NUMBER, "model": LONG, "status": "failed", "reason": f"No {LONG} here. " * 4}
    ],
    "simulated": [{"model": "lenet", "simulated": True, "engine": "simulated"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    base = tmp_path_factory.mktemp("kinds")
    return {
        kind: report([str(folder(base / f"r{k}", rows))], str(base / f"out{k}")).page.as_uri()
        for k, (kind, rows) in enumerate(KINDS.items())
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_report_can_be_read_on_a_phone(browser, kinds, kind):
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page.goto(kinds[kind])
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    sizes = page.evaluate(
        """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
          const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
          return [...svg.querySelectorAll('text')]
            .map(t => parseFloat(getComputedStyle(t).fontSize) * scale);
        })"""
    )
    page.close()
    assert all(size >= 8 for size in sizes)


@pytest.mark.parametrize("kind", ["scaling", "batch ladder"])
def test_a_single_panel_takes_the_whole_figure(browser, kinds, kind):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(kinds[kind])
    share = page.evaluate(
        """() => {
          const svg = document.querySelector('#scaling-1 svg, #batch-1 svg');
          const frame = svg.getBoundingClientRect();
          const ends = [...svg.querySelectorAll('text')].map(t => t.getBoundingClientRect().right);
          return (Math.max(...ends) - frame.left) / frame.width;
        }"""
    )
    page.close()
    assert share > 0.85


def test_no_label_in_a_figure_touches_another_or_leaves_it(page):
    wrong = page.evaluate(
        """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
          const frame = svg.getBoundingClientRect();
          const boxes = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim())
            .map(t => [t.textContent, t.getBoundingClientRect()]);
          const found = [];
          boxes.forEach(([a, p], i) => {
            if (p.left < frame.left - 8 || p.right > frame.right + 8) found.push(a + ' leaves');
            boxes.slice(i + 1).forEach(([b, q]) => {
              if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 3
                  && q.top < p.bottom - 3) found.push(a + ' / ' + b);
            });
          });
          return found;
        })"""
    )
    assert wrong == []


def test_on_paper_there_are_no_controls_and_the_ink_is_dark(page):
    page.emulate_media(media="print", color_scheme="dark")
    seen = page.evaluate(
        """() => [document.querySelector('nav').offsetParent,
             document.querySelector('.tools').offsetParent,
             getComputedStyle(document.body).backgroundColor]"""
    )
    page.emulate_media(media="screen", color_scheme="light")
    assert seen == [None, None, "rgb(255, 255, 255)"]

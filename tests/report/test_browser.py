"""The page in a real browser, headless: where there is none the test says so and is skipped."""

from __future__ import annotations

import os
import shutil

import pytest
from rows import folder

from raybench.report.report import report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser():
    where = os.environ.get("RAYBENCH_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    with playwright.sync_playwright() as driver:
        try:
            found = driver.chromium.launch(executable_path=where, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    rows = [
        {"model": model, "workers": workers, "items_per_s": rate * workers, "precision": precision}
        for model, rate in (("alexnet", 900.0), ("googlenet", 10000.0))
        for precision in ("fp32", "int8")
        for workers in (1, 2)
    ]
    base = tmp_path_factory.mktemp("browser")
    return report([str(folder(base / "r", rows, gauges=True))], str(base / "out")).page.as_uri()


@pytest.fixture
def page(browser, address):
    """The page, opened; at the end nothing was asked of the network and nothing went wrong."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    wrong, asked = [], []
    opened.on("console", lambda message: wrong.append(message.text))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(address)
    yield opened
    assert wrong == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    context.close()


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
    page.click("#points th:has-text('items') button")
    assert column(page, "items")[:2] == ["900", "900"]
    assert column(page, "items")[-1] == "20,000"
    page.click("#points th:has-text('items') button")
    assert column(page, "items")[0] == "20,000"
    assert page.get_attribute("#points th:has-text('items')", "aria-sort") == "descending"


def test_tables_filter_by_words_and_by_factor(page):
    page.fill("#points input", "googlenet INT8")
    assert column(page, "model") == ["googlenet"] * 2
    assert "2 of 8 rows" in page.inner_text("#points .tools")
    page.fill("#points input", "")
    page.select_option("#points select[aria-label=workers]", label="2")
    assert column(page, "workers") == ["2"] * 4


def test_the_theme_changes_page_and_figures(page):
    def tints():
        return page.evaluate(
            """() => [getComputedStyle(document.body).backgroundColor,
                 getComputedStyle(document.querySelector('figure svg text')).fill]"""
        )

    before = tints()
    page.click("#theme")  # light
    page.click("#theme")  # dark
    after = tints()
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize("width", [1280, 700, 400])
def test_nothing_overflows_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_labels_in_figures_do_not_overlap(page):
    clashes = page.evaluate(
        """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
          const boxes = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim())
            .map(t => [t.textContent, t.getBoundingClientRect()]);
          const found = [];
          boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
            if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 3
                && q.top < p.bottom - 3) found.push(a + ' / ' + b);
          }));
          return found;
        })"""
    )
    assert clashes == []

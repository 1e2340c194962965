"""Reports of thousands of points: what must be seen stays, and a browser can show the page."""

from helpers.results_folders import folder

from raybench.report import page, row_limit
from raybench.report.build import report
from raybench.report.document import Document, Figure, Section


def written(tmp_path, monkeypatch, **limits):
    for name, value in limits.items():
        monkeypatch.setattr(row_limit, name, value)
    rows = [{"batch_size": k + 1, "verdict": "unstable" if k == 8 else "stable"} for k in range(9)]
    root = folder(tmp_path / "results", rows)
    return report([str(root)], str(tmp_path / "out")).page.read_text()


def table(html):
    return html.partition('id="points"')[2].partition("</table>")[0]


def test_a_long_table_keeps_what_is_not_stable_and_says_how_many_rows_there_are(
    tmp_path, monkeypatch
):
    shown = table(written(tmp_path, monkeypatch, MOST_ROWS=10, MOST_OF_TABLE=4))
    assert shown.count("<tr>") == 1 + 4
    assert "unstable" in shown
    assert "4 of 9 rows are shown, those with a verdict to look at first" in shown
    assert "format=csv" in shown


def test_a_short_report_keeps_every_row(tmp_path, monkeypatch):
    shown = table(written(tmp_path, monkeypatch, MOST_OF_TABLE=4))
    assert shown.count("<tr>") == 1 + 9
    assert "are shown" not in shown


def drawn(letters, png):
    figure = Figure(
        "batch-1", "Batch", "What it shows.", f"<svg>{'m' * letters}</svg>", "", png, 700
    )
    return page.page(Document("T", "S", [Section("batch", "Batch", [figure])]))


def test_a_drawing_of_very_many_marks_is_an_image_where_that_is_smaller():
    assert "<svg>" in drawn(1000, b"png")
    html = drawn(400_000, b"png")
    assert '<img src="data:image/png;base64,cG5n"' in html
    assert 'href="figures/batch-1.svg"' in html
    assert "<svg>" not in html
    assert "<svg>" in drawn(200_000, b"p" * 300_000)

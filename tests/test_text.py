"""Words of others on the way to a terminal: nothing obeyed, nothing lost, singular and plural."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.cli.main import main
from raybench.errors import closest
from raybench.report.terminal.console import open_console, print_line
from raybench.results.store import Store
from raybench.text import counted, printable

CLEAR, TITLE, RIGHT_TO_LEFT = "\x1b[2J", "\x1b]0;owned\x07", "\u202egpj.exe"
HOSTILE = f"net{CLEAR}{TITLE}\x9b31m\b\b\r\nFAKE {RIGHT_TO_LEFT}"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("plain, ümlaut, 網, עברית, 👩‍👧", "plain, ümlaut, 網, עברית, 👩‍👧"),
        ("two\r\nlines\tand a tab", "two lines and a tab"),
        (CLEAR, "\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("a\bb\x07", "a\\x08b\\x07"),
        (RIGHT_TO_LEFT, "\\u202egpj.exe"),
        (os.fsdecode(b"caf\xe9.onnx"), "caf\\udce9.onnx"),
    ],
)
def test_what_a_terminal_would_obey_becomes_visible_and_all_else_stays(words, shown):
    assert printable(words) == shown


@given(st.text())
def test_a_printed_word_is_one_line_that_any_encoding_of_unicode_takes(words):
    shown = printable(words)
    assert not OBEYED.search(shown)
    assert len(shown.splitlines()) < 2
    assert shown.encode().decode() == shown


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 points"), (1, "1 point"), (2, "2 points"), (1200, "1,200 points")]
)
def test_a_noun_agrees_with_its_number(number, words):
    assert counted(number, "point") == words


def test_a_line_on_an_output_without_unicode_is_written_in_ascii():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    print_line(open_console(file), "222.6 items/s ± 2.7 % ✓ [red]網")
    file.flush()
    assert raw.getvalue() == b"222.6 items/s +- 2.7 % + [red]?\n"


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """Return a results folder whose rows hold in every word what a terminal obeys."""
    monkeypatch.setattr("os.fsync", lambda handle: None)
    run = Store(tmp_path / "results").start_run({})
    row = {
        "environment_id": "e1", "precision": "fp32", "batch_size": 1, "engine": f"e{HOSTILE}",
        "device": f"d{HOSTILE}", "inflight": 1, "transfers": True, "simulated": False,
        "preset": "quick", "method_version": 1, "notes": [f"note{HOSTILE}"],
    }  # fmt: skip
    run.write_environment([{"environment_id": "e1", "hostname": HOSTILE}])
    good = {"model": HOSTILE, "status": "ok", "verdict": "stable", "items_per_s": 2.0}
    run.write_point("a", 0, trials={**row, **good, "workers": 1})
    run.write_point("c", 0, trials={**row, **good, "workers": 4})
    bad = {"model": HOSTILE, "status": "failed", "reason": f"why{HOSTILE}"}
    run.write_point("b", 0, trials={**row, **bad, "workers": 2})
    return str(tmp_path / "results")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("form", ["table", "markdown", "json", "csv", "junit"])
@pytest.mark.parametrize("verb", ["show", "compare"])
def test_stored_words_cannot_command_the_terminal(hostile, verb, form, monkeypatch, capsys):
    if (verb, form) == ("show", "junit"):
        return
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    assert main([verb, *[hostile] * (1 + (verb == "compare")), f"format={form}"]) == 0
    own_colours = re.sub("\x1b\\[[0-9;]*m", "", screen.getvalue())
    assert "net" in own_colours
    assert not OBEYED.search(own_colours)


def test_a_report_of_stored_words_is_well_formed_and_holds_no_command(hostile, tmp_path, capsys):
    assert main(["report", hostile, f"out={tmp_path / 'out'}"]) == 0
    assert not OBEYED.search(capsys.readouterr().out)
    written = [p for p in (tmp_path / "out").rglob("*") if p.suffix in (".html", ".md", ".svg")]
    assert len(written) > 2
    for path in written:
        assert not OBEYED.search(path.read_text().replace("\t", "")), path
        if path.suffix == ".svg":
            ElementTree.parse(path)


@pytest.mark.filterwarnings("default")
def test_a_file_that_cannot_be_read_is_named_in_a_line_that_shows_what_its_name_holds(
    hostile, capsys
):
    Path(hostile, "trials", f"x{CLEAR}.parquet").write_text("no")
    assert main(["show", hostile]) == 0
    error = capsys.readouterr().err
    assert error.startswith("raybench: Left out of ")
    assert "x\\x1b[2J.parquet" in error
    assert error.count("\n") == 1


def test_words_of_the_command_line_cannot_command_the_terminal_in_an_error(capsys):
    for words in ([f"show{CLEAR}"], ["show", f"no{HOSTILE}"], ["compare", f"x{CLEAR}", "y"],
                  ["list", f"x{CLEAR}"], ["plan", f"model=x{HOSTILE}"], ["report", f"no{CLEAR}"]):  # fmt: skip
        assert main(words) == 2
        error = capsys.readouterr().err
        assert not OBEYED.search(error)
        assert error.count("\n") == 1


def test_of_names_that_differ_in_dashes_alone_the_one_that_was_written_is_closest():
    assert [closest(name, ["a_b", "ab", "xyz"]) for name in ("a_b", "ab")] == ["a_b", "ab"]
    assert closest("A-B", ["a_b", "xyz"]) == "a_b"
    assert closest("engine", ["a_b", "xyz"]) is None

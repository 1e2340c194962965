"""Words become options and positional arguments; every verb has a help page that names its options."""

from __future__ import annotations

import pytest

from raybench.cli import compare, help, report
from raybench.cli.arguments import parse, to_bool, to_share
from raybench.cli.main import VERBS, main
from raybench.errors import ConfigError


def test_options_are_taken_with_and_without_dashes():
    arguments = parse("compare", ["a", "by=x", "--format=csv", "strict"], ["by", "format", "strict"],
                      switches=["strict"])  # fmt: skip
    assert arguments.positional == ["a"]
    assert arguments.options == {"by": "x", "format": "csv", "strict": "true"}


def test_a_folder_with_an_equals_sign_in_its_name_is_no_option(tmp_path, monkeypatch):
    (tmp_path / "out=1").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse("report", ["out=1", "out=2"], ["out"]).positional == ["out=1"]


def test_the_options_of_a_buckets_address_belong_to_the_address():
    address = "s3://bucket/results?endpoint_override=host"
    assert parse("report", [address], ["out"]).positional == [address]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [("--fast", "Unknown option '--fast'"), ("ot=x", "report knows no 'ot'. Did you mean 'out'")],
)
def test_an_unknown_option_is_refused_with_the_nearest(word, sentence):
    with pytest.raises(ConfigError, match=sentence):
        parse("report", [word], ["out", "title"])


def test_values_are_converted_or_refused():
    assert to_bool("strict", "True")
    assert to_share("threshold", "2%") == to_share("threshold", "0.02")
    with pytest.raises(ConfigError, match="strict takes true or false"):
        to_bool("strict", "maybe")
    with pytest.raises(ConfigError, match="threshold takes a share"):
        to_share("threshold", "much")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_prints_its_own_page(verb, capsys):
    pages = set()
    for words in ([verb, "--help"], [verb, "x", "-h"], ["help", verb], [verb, "help"]):
        assert main(words) == 0
        pages.add(capsys.readouterr().out)
    (page,) = pages
    assert page.startswith(f"usage: raybench {verb}".replace(" run", " [run]"))
    assert max(map(len, page.splitlines())) <= 100


def test_the_page_of_the_program_names_every_verb(capsys):
    for words in (["--help"], ["experiment=smoke", "-h"], [], ["help"]):
        assert main(words) == 0
    assert all(f"\n  {verb} " in help.PROGRAM for verb in VERBS)
    assert capsys.readouterr().out.count("usage: raybench [verb]") == 4


@pytest.mark.parametrize("verb", [compare, report])
def test_a_page_names_every_option_of_its_verb(verb):
    page = help.VERBS[verb.__name__.rpartition(".")[2]]
    assert all(f"\n  {option}" in page for option in verb.OPTIONS)

"""Command lines and YAML files drawn at random end with exit code 0, 1 or 2, and in one line.

`benchmarks/fuzz.py` draws thousands; these are the same few at every run.
"""

from __future__ import annotations

import pytest
from helpers import fuzzing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raybench.config.convert import Where, guess
from raybench.config.words import InlineText, structure
from raybench.errors import ConfigError

DRAWN = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    fuzzing.prepare_folder(folder)
    with pytest.MonkeyPatch.context() as patch, fuzzing.without_ray():
        patch.chdir(folder)
        yield folder


@settings(DRAWN, max_examples=60)
@given(words=fuzzing.command_lines())
def test_a_command_ends_with_its_code_and_a_line(place, words):
    ended = fuzzing.run_command(words)
    assert not ended.wrong, (words, ended.wrong)


@settings(DRAWN, max_examples=40)
@given(content=fuzzing.yaml_files())
def test_a_file_is_planned_or_refused(place, content):
    (place / "drawn.yaml").write_bytes(content)
    ended = fuzzing.run_command(["plan", "experiment=drawn.yaml"])
    assert not ended.wrong, (content, ended.wrong)


@settings(DRAWN, max_examples=200)
@given(text=st.text(max_size=30) | st.text("[]{},:'\" ab\\", max_size=30))
def test_brackets_are_read_or_refused_and_other_text_is_as_it_was(text):
    try:
        found = structure(text)
    except ConfigError:
        return
    assert found == text or text.startswith(("[", "{"))


@settings(DRAWN, max_examples=100)
@given(names=st.lists(fuzzing.PRINTABLE.filter(str.strip), min_size=1))
def test_names_in_double_quotes_come_through_a_list_unchanged(names):
    quoted = ", ".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names)
    assert structure(InlineText(f"[{quoted}]")) == names


@settings(DRAWN, max_examples=100)
@given(value=st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.booleans())
def test_what_python_writes_of_a_value_is_read_as_that_value(value):
    text = str(value).lower()
    assert guess(InlineText(text), Where("key", "here")) == value

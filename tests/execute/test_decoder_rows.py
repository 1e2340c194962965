"""What a row says of a decoder's tokens, cache and weights."""

from dataclasses import replace

import pytest
from helpers.plans import expanded
from helpers.tiny_decoder import PARAMETERS, shrink

from raybench.execute.decoder_rows import decoder_columns
from raybench.experiment import ModelSettings
from raybench.models.prepare import prepare


@pytest.fixture
def tiny(monkeypatch):
    """The zoo's smallest decoder with a few weights."""
    shrink(monkeypatch)


def columns(tmp_path, name, *words, precision="fp32", engine=None):
    """Columns of a point in which 10 items/s were measured."""
    _, (point, *_) = expanded(f"model={name}", "batch_size=4", *words)
    point = replace(point, precision=precision, engine=engine or point.engine)
    settings = replace(ModelSettings(), shapes=point.sized_settings.shapes)
    model = prepare(name, settings, precision, "native" if precision == "bf16" else None, tmp_path)
    assert model.parameters == PARAMETERS or name == "lenet"
    return decoder_columns(point, model, {"items_per_s": 10.0})


def test_a_step_reads_its_cache_and_generates_one_token_an_item(tiny, tmp_path):
    found = columns(tmp_path, "decoder_125m_step", "context=24", "new_tokens=8")
    assert found["tokens_per_s"] == 10.0
    assert found["kv_cache_bytes"] == 4 * 2 * 2 * 2 * 24 * 8 * 4  # items, blocks, keys and values
    constants = found["weight_bytes"] - 4 * PARAMETERS
    assert 0 < constants < 2 * 32 * 8 * 4 + 32 * 8 + 400  # turns, positions, and shapes


@pytest.mark.parametrize(("engine", "itemsize"), [("torch", 2), ("openvino", 4)])
def test_the_cache_counts_as_the_engine_keeps_it(engine, itemsize, tiny, tmp_path):
    given = {"precision": "bf16", "engine": engine}
    step = columns(tmp_path, "decoder_125m_step", "context=24", "new_tokens=8", **given)
    assert step["kv_cache_bytes"] == 4 * 2 * 2 * 2 * 24 * 8 * itemsize
    prefill = columns(tmp_path, "decoder_125m_prefill", "prompt=24", **given)
    assert prefill["kv_cache_bytes"] == 4 * 2 * 2 * 2 * 24 * 8 * 4  # outputs have the graph's type


def test_a_prefill_makes_the_cache_and_reads_the_whole_prompt(tiny, tmp_path):
    found = columns(tmp_path, "decoder_125m_prefill", "prompt=24")
    assert found["tokens_per_s"] == 240.0
    assert found["kv_cache_bytes"] == 4 * 2 * 2 * 2 * 24 * 8 * 4


def test_angles_that_a_step_gathers_are_no_parameters_in_tables(tiny, tmp_path):
    """The embedding of a decoder is its last matrix as well, of which no step reads a part only."""
    shapes = {"context": 24, "new_tokens": 8}
    model = prepare("decoder_125m_step", ModelSettings(shapes=shapes), "fp32", None, tmp_path)
    assert model.table_parameters == 0


def test_any_model_says_what_its_weights_take(tmp_path):
    found = columns(tmp_path, "lenet")
    assert found.keys() == {"weight_bytes"}
    assert found["weight_bytes"] == 4 * 61_706

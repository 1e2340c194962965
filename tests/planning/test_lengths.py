"""Lengths in tokens on the axes."""

import pytest
from helpers.plans import expanded

from raybench.errors import ConfigError

STEP = "model=decoder_125m_step"


def lengths(*words):
    _, points = expanded(*words, "workers=1", "precision=fp32")
    return [(p.model, p.prompt, p.context, p.new_tokens, p.tokens_per_item) for p in points]


def test_a_decoder_has_its_usual_lengths_and_no_other_model_has_any():
    assert lengths("model=[decoder_125m_prefill,decoder_125m_step,lenet]") == [
        ("decoder_125m_prefill", 128, None, None, 128),
        ("decoder_125m_step", None, 512, 128, 1),
        ("lenet", None, None, None, None),
    ]


def test_an_axis_applies_to_the_models_that_have_it():
    assert lengths("model=[lenet,decoder_125m_step]", "context=[64,256]", "new_tokens=8") == [
        ("lenet", None, None, None, None),
        ("decoder_125m_step", None, 64, 8, 1),
        ("decoder_125m_step", None, 256, 8, 1),
    ]


def test_points_of_other_lengths_are_other_points_of_other_series():
    _, points = expanded(STEP, "context=[64,256]", "workers=1")
    assert len({point.id for point in points}) == len({point.series for point in points}) == 2
    _, (usual, *_) = expanded(STEP)
    _, (named, *_) = expanded(STEP, "context=512", "new_tokens=128")
    assert usual.id == named.id


def test_the_lengths_are_among_the_shapes_of_the_graph():
    _, (point, *_) = expanded(STEP, "context=64")
    assert point.sized_settings.shapes == {"context": 64, "new_tokens": 128}
    assert point.model_settings.shapes == {}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((STEP, "context=0"), "grid.context takes whole numbers from 1 to 131072 or auto, not 0"),
        ((STEP, "context=200000"), "from 1 to 131072"),
        (("model=decoder_125m_prefill", "prompt=none"), "grid.prompt takes whole numbers"),
        (("model=decoder_125m_prefill", "prompt=1.5"), "grid.prompt takes whole numbers"),
        ((STEP, "prompt=64"), "prompt=64 is a length in tokens that 'decoder_125m_step' does not"),
        (("model=[lenet,alexnet]", "context=8"), "'lenet', 'alexnet' do not have"),
        ((STEP, "model.shapes.context=64"), "Write context=64 instead"),
        ((STEP, "context=[8,8]"), "grid.context holds 8 twice"),
    ],
)
def test_a_length_that_cannot_be_is_refused(words, says):
    with pytest.raises(ConfigError) as refused:
        expanded(*words)
    assert says in str(refused.value)

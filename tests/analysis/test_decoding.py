"""Times, rates, ladders and requests of decoders."""

from __future__ import annotations

import pytest
from helpers.trial_tables import failed_trial, table, trials

from raybench.analysis.decoding import decoding
from raybench.errors import ConfigError

CORE = {"device": "AMD EPYC", "device_kind": "cpu", "engine": "openvino", "precision": "fp32",
        "batch_size": 1, "inflight": 1}  # fmt: skip


def measured(rate, part, batch=1, spread=0.0, **row):
    rates = [rate * (1 + spread * k) for k in (-1, 0, 1)] if spread else [rate]
    lengths = {"prompt": 128} if part == "prefill" else {"context": 512, "new_tokens": 128}
    made = {**CORE, "model": f"decoder_125m_{part}", "batch_size": batch, **lengths, **row}
    name = "-".join(str(made.get(k)) for k in ("prompt", "context", "new_tokens"))
    return trials(rates, **{"point_id": f"{part}{batch}{name}", **made})


def answer(*rows, new_tokens=None):
    return decoding(table(*(one for each in rows for one in each)), new_tokens)


def only(*rows):
    (point,) = answer(*rows).points
    return point


def test_the_time_of_a_batch_follows_from_its_rate_with_its_interval():
    step = only(measured(80.0, "step", batch=4, spread=0.01))
    assert step.batch_ms.value == pytest.approx(50.0)
    assert step.batch_ms.lo == pytest.approx(4000 / step.tokens_per_s.hi)
    assert step.batch_ms.hi == pytest.approx(4000 / step.tokens_per_s.lo)
    assert (step.name, step.part, step.length) == ("decoder_125m", "step", 512)


def test_tokens_of_a_prefill_are_those_of_its_prompt_and_of_a_step_one():
    assert only(measured(5.0, "prefill")).tokens_per_s.value == 5 * 128
    two = only(measured(80.0, "step", workers=2))
    assert (two.tokens_per_s.value, two.tokens_per_s_per_device.value) == (80.0, 40.0)
    assert two.batch_ms.value == pytest.approx(25.0)  # each device has a batch of its own


def test_other_models_and_open_loop_are_no_decoders():
    assert answer(trials([1.0], model="resnet50")).points == ()
    assert answer(measured(1.0, "step", load="poisson(1)")).points == ()


def test_the_share_of_memory_counts_weights_and_cache_once_a_batch():
    copy = trials([10_000.0], **{**CORE, "model": "copy", "batch_size": 128, "point_id": "c"})
    needs = {"parameters": 125_000_000, "table_parameters": 0, "weight_bytes": 500_100_000,
             "kv_cache_bytes": 40_000_000, "input_bytes_per_item": 8, "output_bytes_per_item": 8}  # fmt: skip
    point = only(copy, measured(80.0, "step", batch=2, **needs))
    assert point.memory_share.value == pytest.approx(40 * (540e6 + 32) / (10_000 * 2**21))


def test_a_copy_that_a_step_refutes_gives_no_share_and_is_named():
    copy = trials([1000.0], **{**CORE, "model": "copy", "batch_size": 128, "point_id": "c"})
    needs = {"parameters": 125_000_000, "weight_bytes": 500_100_000, "input_bytes_per_item": 8}
    refuted = answer(copy, measured(80.0, "step", **needs))
    assert refuted.points[0].memory_share.value is None
    assert any("copy by openvino is no ceiling of memory" in line for line in refuted.missing)


def test_a_ladder_over_the_batch_says_what_it_gains_and_costs_and_where_memory_ends():
    ended = failed_trial("out_of_memory", **{**CORE, "device": None, "engine_version": None},
                         model="decoder_125m_step", context=512, new_tokens=128, point_id="e")  # fmt: skip
    ended["batch_size"] = 64
    ladders = answer(measured(20.0, "step"), measured(200.0, "step", batch=16), [ended]).ladders
    (ladder,) = ladders
    assert (ladder.along, ladder.memory_end) == ("batch_size", 64)
    assert ladder.finding == (
        "Batch 16 gives the most, 200 tokens/s, 10 times batch 1; a token takes 80 ms there and 50 ms "
        "at batch 1; memory ends at batch 64."
    )
    assert ladder.missing == ()
    assert [point.status for point in ladder.points] == ["ok", "ok", "out_of_memory"]


def test_a_ladder_over_the_context_says_what_each_token_of_it_costs():
    (ladder,) = answer(
        measured(50.0, "step", context=512), measured(40.0, "step", context=1512)
    ).ladders
    assert ladder.along == "context"
    assert ladder.finding == (
        "A token takes 20 ms with a context of 512 and 25 ms with a context of 1,512: "
        "5 us more for each token of it."
    )
    assert ladder.missing == ("No memory end: no context ran out of memory.",)


def test_a_longer_context_that_is_not_surely_slower_costs_nothing_for_sure():
    (ladder,) = answer(
        measured(50.0, "step", context=512, spread=0.05),
        measured(49.5, "step", context=1024, spread=0.05),
    ).ladders
    assert ladder.finding.endswith("with a context of 1,024: not surely longer.")


def test_a_request_is_its_prefill_and_a_step_for_each_further_token():
    (request,) = answer(measured(10.0, "prefill"), measured(50.0, "step", context=256)).requests
    assert (request.prompt, request.new_tokens) == (128, 128)
    assert request.first_token_ms.value == pytest.approx(100.0)
    assert request.request_ms.value == pytest.approx(100 + 127 * 20)
    assert request.tokens_per_s.value == pytest.approx(128 / 2.64)
    assert request.basis == "at a context of 256, longer than it has"


def test_between_two_contexts_the_time_of_a_token_is_on_the_line():
    rows = (measured(50.0, "step", context=100), measured(25.0, "step", context=300))
    (request,) = answer(measured(10.0, "prefill"), *rows, new_tokens=146).requests
    assert request.token_ms.value == pytest.approx(20 + 0.5 * 20)  # at 128 + 144 / 2
    (shortest,) = answer(
        measured(10.0, "prefill"), measured(100.0, "step", context=128), new_tokens=2
    ).requests
    assert shortest.basis == "at a context of 128"
    assert request.basis == "on the line between contexts 100 and 300"


def test_the_interval_of_a_request_adds_those_of_its_parts():
    rows = (measured(10.0, "prefill", spread=0.01), measured(50.0, "step", spread=0.01))
    (request,) = answer(*rows).requests
    assert request.request_ms.lo == pytest.approx(
        request.first_token_ms.lo + 127 * request.token_ms.lo
    )
    assert request.request_ms.hi == pytest.approx(
        request.first_token_ms.hi + 127 * request.token_ms.hi
    )
    (alone,) = answer(rows[0], measured(50.0, "step")).requests
    assert alone.request_ms.lo is None


@pytest.mark.parametrize("tokens", [0, -3, 1.5, "x", True])
def test_a_request_has_a_whole_number_of_new_tokens(tokens):
    with pytest.raises(ConfigError, match="is no whole number from 1 on"):
        answer(measured(10.0, "prefill"), measured(50.0, "step"), new_tokens=tokens)


def test_without_both_parts_of_the_same_batch_there_is_no_request():
    assert "step has no number" in answer(measured(10.0, "prefill")).missing[0]
    apart = answer(measured(10.0, "prefill", batch=4), measured(50.0, "step"))
    assert "different batches or settings" in apart.missing[0]
    assert answer(trials([1.0], model="resnet50")).missing == ()


def test_the_table_has_a_row_for_each_point():
    rows = answer(measured(10.0, "prefill"), measured(50.0, "step")).as_table().to_pylist()
    assert [(row["part"], row["length"], row["batch_ms"]) for row in rows] == [
        ("prefill", 128, pytest.approx(100.0)), ("step", 512, pytest.approx(20.0)),
    ]  # fmt: skip

"""A reduced precision that is slower than the next wider one, and the layers that explain it."""

from __future__ import annotations

import json

import pytest
from helpers.trial_tables import table, trials

from raybench.analysis.precision import precision
from raybench.results.store import build

REFORMAT = "Reformatting CopyNode for Input Tensor 0 to conv_2 + PWN(conv_2.relu)"
FP16 = {
    "conv_1 + PWN(conv_1.relu)": 0.3,
    "conv_2 + PWN(conv_2.relu)": 0.2,
    "conv_3 + PWN(conv_3.relu) || conv_4 + PWN(conv_4.relu)": 0.5,
    "output": 0.1,
}
INT8 = {
    "data_QuantizeLinear": 0.05,
    "conv_1.weight_quantized + conv_1.weight_DequantizeLinear + conv_1 + PWN(conv_1.relu)": 0.2,
    REFORMAT: 0.1,
    "conv_2 + PWN(conv_2.relu)": 3.0,
    "conv_3.weight_quantized + conv_3.weight_DequantizeLinear + conv_3 + PWN(conv_3.relu)": 0.15,
    "conv_4.weight_quantized + conv_4.weight_DequantizeLinear + conv_4 + PWN(conv_4.relu)": 0.15,
    "output": 0.1,
}


def layers(point_id, times, **row):
    keys = {"run_id": "01A", "trial": 0, "environment_id": "e1", "point_id": point_id, **row}
    return [
        {**keys, "layer": number, "name": name, "time_ms": ms}
        for number, (name, ms) in enumerate(times.items())
    ]


def rows(**rates):
    return table(
        *(
            row
            for name, values in rates.items()
            for row in trials(values, precision=name, point_id=name)
        )
    )


def layer_table(*parts):
    return build("layers", [row for part in parts for row in part], {})


def test_layers_are_compared_by_the_nodes_that_their_names_hold():
    found = precision(
        rows(fp32=[1.0], fp16=[4.0], int8=[2.0]),
        layer_table(layers("fp16", FP16), layers("int8", INT8)),
    )
    (slower,) = found.slower
    assert (slower.series.precision, slower.wider, slower.ratio.value) == ("int8", "fp16", 0.5)
    differences = {each.layers: each.difference_ms for each in slower.layers}
    assert differences == pytest.approx(
        {"conv_2": 2.9, "data": 0.05, "output": 0.0, "conv_1": -0.1, "conv_3 + conv_4": -0.2}
    )
    assert next(iter(differences)) == "conv_2"
    assert slower.layers[0].time_ms == pytest.approx(3.1)  # with what is laid out anew for it
    data = slower.layers[1]
    assert (data.time_ms, data.wider_time_ms) == (0.05, None)


def test_nodes_that_the_library_reports_beside_the_name_count():
    def named(number, node):
        info = json.dumps({"Metadata": f"[ONNX Layer: {node}]\x1e[ONNX Layer: {node}.relu]"})
        return {"name": f"__myl_Conv_myln_k{number}", "info_json": info}

    fp16 = [{**row, **named(7, "conv_1")} for row in layers("fp16", {"a": 1.0})]
    int8 = [{**row, **named(3, "conv_1")} for row in layers("int8", {"b": 1.5})]
    (slower,) = precision(rows(fp16=[4.0], int8=[2.0]), layer_table(fp16, int8)).slower
    (only,) = slower.layers
    assert (only.layers, only.time_ms, only.wider_time_ms) == ("conv_1", 1.5, 1.0)


def test_each_precision_is_compared_with_the_next_wider_that_has_a_number():
    found = precision(rows(fp32=[10.0], fp16=[4.0], int8=[3.0], int8_fp16=[5.0]))
    assert [(each.series.precision, each.wider) for each in found.slower] == [
        ("fp16", "fp32"),
        ("int8", "fp16"),
    ]
    assert all(each.layers == () for each in found.slower)
    (alone,) = precision(rows(fp32=[10.0], int8_fp16=[4.0])).slower
    assert (alone.series.precision, alone.wider) == ("int8_fp16", "fp32")


def test_a_difference_within_its_interval_is_none():
    wide = [100.0, 101.0, 99.0]
    assert precision(rows(fp16=wide, int8=[99.5, 100.5, 98.5])).slower == ()
    assert precision(rows(fp16=[100.0], int8=[99.5])).slower == ()
    assert precision(rows(fp16=wide, int8=[90.0, 90.5, 89.5])).slower


def test_the_newest_trial_with_layers_counts():
    older = layers("int8", {"conv_1": 9.0})
    newer = layers("int8", {"conv_1": 2.0}, trial=1)
    elsewhere = layers("int8", {"conv_1": 7.0}, run_id="01Z", environment_id="e2")
    every = layer_table(older, newer, elsewhere, layers("fp16", {"conv_1": 1.0}))
    (slower,) = precision(rows(fp16=[4.0], int8=[2.0]), every).slower
    assert [each.time_ms for each in slower.layers] == [2.0]

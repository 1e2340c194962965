"""What is refused, before anything runs, for a model whose state stays on the device."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers.state_graphs import step_graph

from raybench.config.compose import read
from raybench.errors import ConfigError, ModelError
from raybench.planning.plan import make_plan


def planned(*words):
    request = read(["experiment=model", "device=cpu", "workers=1", *words]).resolve({"cpu": 1})
    return make_plan(request.experiment, request.devices, "node", "")


@pytest.mark.parametrize("engine", ["simulated", "openvino"])
def test_an_open_loop_is_refused_with_what_to_leave_out(engine):
    words = ("model=decoder_125m_step", f"engine={engine}", "load=[closed,0.5]")
    with pytest.raises(
        ConfigError, match=r"load=0.5: each batch .*exclude=\[\{model: decoder_125m_"
    ):
        planned(*words)


def test_other_models_of_the_grid_keep_their_open_loop():
    rule = "exclude=[{model: decoder_125m_step, load: 0.5}]"
    words = ("model=[lenet,decoder_125m_step]", "engine=simulated", "load=[closed,0.5]", rule)
    loads = {(point.model, point.load) for point in planned(*words).points}
    assert loads == {("lenet", "closed"), ("lenet", "0.5"), ("decoder_125m_step", "closed")}


def test_a_prefill_takes_arrivals():
    assert planned("model=decoder_125m_prefill", "engine=simulated", "load=poisson(10)").points


def test_values_and_files_for_state_are_refused(tmp_path):
    onnx.save(step_graph(), tmp_path / "step.onnx")
    words = (f"model={tmp_path}/step.onnx", "engine=openvino", "precision=fp32")
    ranges = "model.ranges={token: [0, 10], position: [5, 5]}"
    assert planned(*words, ranges).points
    with pytest.raises(ModelError, match=r"model.values.position .*model.ranges.position"):
        planned(*words, ranges, "model.values.position=[5]")
    np.savez(tmp_path / "items.npz", token=np.zeros((4, 1), np.int64))
    with pytest.raises(ModelError, match=r"goes on by itself .*Leave it out"):
        planned(*words, ranges, f"model.inputs={tmp_path}/items.npz")

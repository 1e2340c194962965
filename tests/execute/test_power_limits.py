"""Power limits that are refused before anything is measured, and the axis that asks for them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from helpers.plans import expanded

from raybench.config.axes import parse_axis
from raybench.engines.simulated import SimulatedEngine, SimulatedSettings, _speed_at
from raybench.errors import ClusterError, ConfigError
from raybench.execute import power_limits
from raybench.execute.power_limits import check_boards, check_limits
from raybench.machine.board_power import BoardPower

H200 = BoardPower(0, "NVIDIA H200", 700.0, 200.0, 700.0)


def points(*words):
    return expanded("model=alexnet", "precision=fp32", "workers=1", "batch_size=8", *words)[1]


def on_gpus(*words):
    return [replace(point, engine="tensorrt", engine_options=()) for point in points(*words)]


@pytest.fixture
def boards(monkeypatch):
    """Set what the boards of the hosts say."""
    return lambda **hosts: monkeypatch.setattr(power_limits, "of_hosts", lambda _: hosts)


def test_a_limit_that_is_unchanged_is_the_point_that_it_always_was():
    usual = points()[0]
    unchanged, limited = points("power_limit_w=[unchanged,400]")
    assert unchanged.id == usual.id
    assert limited.id != usual.id
    assert limited.power_limit_w == 400.0
    assert "power_limit_w" not in usual.described()


def test_whole_watts_and_others_are_one_point():
    assert points("power_limit_w=400")[0].id == points("power_limit_w=400.0")[0].id


@pytest.mark.parametrize("written", [0, -1, "max", True, "nan", 1e9, "1e999"])
def test_what_is_no_limit_is_refused_in_one_sentence(written):
    with pytest.raises(ConfigError, match="power_limit_w takes watts above 0"):
        parse_axis("power_limit_w", written)


def test_cores_have_no_limit():
    point = replace(points("power_limit_w=400")[0], engine="openvino", device="cpu")
    with pytest.raises(ConfigError, match="limits GPUs, and engine 'openvino' runs on CPU cores"):
        check_limits([point])
    check_limits([replace(point, power_limit_w=None)])


def test_a_simulated_device_takes_what_its_options_allow():
    check_limits(points("power_limit_w=[200,700]"))
    with pytest.raises(ConfigError, match=r"from 200 to 700 W, not 800. Write for example"):
        check_limits(points("power_limit_w=800"))
    check_limits(points("power_limit_w=800", "engine.highest_w=900"))


def test_no_board_is_asked_unless_a_point_limits_it(monkeypatch):
    monkeypatch.setattr(power_limits, "of_hosts", lambda _: pytest.fail("a board was asked"))
    check_boards(points("power_limit_w=400"), None)  # simulated
    check_boards(on_gpus(), None)


def test_a_board_that_allows_a_limit_is_used(boards):
    boards(a=(H200,), b=(H200, H200))
    check_boards(on_gpus("power_limit_w=[200,700]"), None)


@pytest.mark.parametrize(
    ("board", "said"),
    [
        (None, "none answers on a"),
        (replace(H200, mig=True), "cut into MIG slices, which share the power limit"),
        (replace(H200, highest_w=None), "has no power limit that can be set"),
        (replace(H200, refusal="Insufficient Permissions"),
         "may not set the power limit of GPU 0 .* of a: Insufficient Permissions. Run as root"),
    ],
)  # fmt: skip
def test_a_board_that_cannot_be_limited_is_refused_with_what_to_do(boards, board, said):
    boards(a=() if board is None else (board,))
    with pytest.raises(ClusterError, match=said) as refused:
        check_boards(on_gpus("power_limit_w=400"), None)
    assert "\n" not in str(refused.value)


def test_a_limit_out_of_range_names_the_board_and_a_ladder(boards):
    boards(a=(H200,), b=(replace(H200, index=3, lowest_w=100.0, highest_w=400.0),))
    said = r"GPU 3 \(NVIDIA H200\) of b takes power limits from 100 to 400 W, not 500.*=\[100,160,220,280,340,400\]"
    with pytest.raises(ConfigError, match=said):
        check_boards(on_gpus("power_limit_w=[300,500]"), None)


def test_a_simulated_device_gains_from_power_up_to_its_knee():
    options = SimulatedSettings(idle_w=100.0, knee_w=500.0, power_exponent=0.5)
    load = SimpleNamespace(power_limit_w=None)
    speeds = [_speed_at(options, SimpleNamespace(power_limit_w=w)) for w in (200.0, 500.0, 700.0)]
    assert speeds == [pytest.approx(0.5), 1.0, 1.0]
    assert _speed_at(options, load) == 1.0
    assert SimulatedEngine.power_limits_w(options) == (200.0, 700.0)

"""Refuses power limits that the devices of a run do not take, before anything is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.cluster.board_powers import of_hosts
from raybench.engines import registry
from raybench.engines.base import LimitsPower
from raybench.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raybench.cluster.session import Session
    from raybench.experiment import Point
    from raybench.machine.board_power import BoardPower

STEPS = 6
"""Limits of a ladder that a refusal proposes."""


def check_limits(points: Iterable[Point]) -> None:
    """Refuse limits of devices that have none, and what a device of the engine's own does not take.

    Raises:
        ConfigError: naming the engine.
    """
    for point in points:
        if point.power_limit_w is None:
            continue
        engine = registry.get(point.engine)
        if issubclass(engine, LimitsPower):
            options = engine.traits.settings(**dict(point.engine_options))
            lowest_w, highest_w = engine.power_limits_w(options)
            _check_range(point, f"A device of engine {point.engine!r}", lowest_w, highest_w)
        elif point.device != "gpu":
            raise ConfigError(
                f"power_limit_w limits GPUs, and engine {point.engine!r} runs on CPU cores here. Use "
                "device=gpu, or engine=simulated to try a ladder without hardware."
            )


def check_boards(points: Sequence[Point], session: Session | None) -> None:
    """Refuse limits that a board does not take, or that this process may not set.

    Nothing is asked of the boards unless a point limits them.

    Args:
        points: that are to be measured.
        session: the cluster; None when Ray is to be started on this machine.

    Raises:
        ClusterError: naming host and board, and what to do.
        ConfigError: for a limit out of a board's range.
    """
    limited = [
        point
        for point in points
        if point.power_limit_w is not None and not registry.limits_power(point.engine)
    ]
    if not limited:
        return
    for host, boards in of_hosts(session).items():
        if not boards:
            raise ClusterError(
                f"power_limit_w is set through NVIDIA's driver (NVML), and none answers on {host}. "
                "Install the driver, or leave power_limit_w out."
            )
        for board in boards:
            _check_board(board, f"GPU {board.index} ({board.name}) of {host}", limited)


def _check_board(board: BoardPower, name: str, points: Sequence[Point]) -> None:
    if board.mig:
        raise ClusterError(
            f"{name} is cut into MIG slices, which share the power limit of the board. Leave "
            "power_limit_w out, or turn MIG off."
        )
    if board.limit_w is None or board.lowest_w is None or board.highest_w is None:
        raise ClusterError(
            f"{name} has no power limit that can be set. Leave power_limit_w out, or use another GPU."
        )
    for point in points:
        _check_range(point, name, board.lowest_w, board.highest_w)
    if board.refusal is not None:
        raise ClusterError(
            f"This process may not set the power limit of {name}: {board.refusal}. Run as root there, "
            "or leave power_limit_w out."
        )


def _check_range(point: Point, name: str, lowest_w: float, highest_w: float) -> None:
    watts = point.power_limit_w
    assert watts is not None
    if not lowest_w <= watts <= highest_w:
        step = (highest_w - lowest_w) / (STEPS - 1)
        ladder = ",".join(f"{lowest_w + step * k:.0f}" for k in range(STEPS))
        raise ConfigError(
            f"{name} takes power limits from {lowest_w:g} to {highest_w:g} W, not {watts:g}. Write for "
            f'example "power_limit_w=[{ladder}]".'
        )

"""What is recorded about one machine before anything is measured on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.machine.checks import SystemIssue


@dataclass(frozen=True)
class NodeFacts:
    """Devices, software and state of one machine.

    Attributes:
        environment: columns of the `environment` table, without those of a single GPU.
        products: number of devices by product name.
        devices: number of devices by kind ("gpu", "cpu").
        gpus: columns of the `environment` table about each GPU; empty without a driver.
        missing: why an engine cannot run here, by its name; None where it can.
        system_issues: machine settings that bias measurements.
        mps: whether CUDA's Multi-Process Service is on; None without GPUs, and if unknown.
        node_id: in the Ray cluster; None for this machine before Ray has started.
    """

    environment: Mapping[str, Any]
    products: Mapping[str, int]
    devices: Mapping[str, int]
    gpus: Sequence[Mapping[str, Any]]
    missing: Mapping[str, str | None]
    system_issues: Sequence[SystemIssue]
    mps: bool | None = None
    node_id: str | None = None

    @property
    def hostname(self) -> str:
        """Return the machine's name."""
        return str(self.environment.get("hostname"))

    @property
    def identity(self) -> Mapping[str, Any]:
        """Return the facts by which `environment_id` and `kind` compare machines."""
        return {**self.environment, "devices": self.products, "mps": self.mps}

    def rows(self, environment_id: str) -> list[dict[str, Any]]:
        """Return rows of the `environment` table: one per GPU, or one for a machine without GPUs."""
        row = {
            **self.environment,
            "device": ", ".join(self.products),
            "environment_id": environment_id,
        }
        if self.node_id is not None:
            row["node_id"] = self.node_id
        return [{**row, **gpu} for gpu in self.gpus] or [row]

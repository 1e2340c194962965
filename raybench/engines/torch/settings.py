"""Options of the engine `torch`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TorchSettings:
    """Options of the engine `torch`.

    Attributes:
        compile: compile the graph by torch.compile, which fuses operators: for GPUs by Triton, for CPU
            cores by a C++ compiler. Without it each operator of the graph is a call of its own.
        freeze: with compile on CPU cores, take weights as constants and store them as the kernels want
            them, once more: a batch of ResNet-50 takes half the time.
        threads: number of threads that compute one operator; they share the worker's core.
        channels_last: keep images and the weights of convolutions with channels last in memory.
        cuda_graphs: launch each batch as a graph, on a GPU: no call from Python for each operator.
    """

    compile: bool = False
    freeze: bool = True
    threads: int = 1
    channels_last: bool = False
    cuda_graphs: bool = False

"""LeNet-5 of LeCun et al. (1998) as it is trained today: ReLU, maximum pooling, all maps connected.

Small enough for a batch to take under a millisecond on a core: for trying things out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models.model import BATCH, TensorSpec
from raybench.models.recipe import Recipe

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder


def write(g: GraphBuilder) -> str:
    """Three convolutions, two fully connected layers, softmax."""
    x = g.maxpool(g.conv("data", 6, 5), 2, 2)
    x = g.maxpool(g.conv(x, 16, 5), 2, 2)
    x = g.op("Flatten", g.conv(x, 120, 5), axis=1, channels=120)
    return g.op("Softmax", g.fc(g.fc(x, 84, relu=True), 10), axis=1)


RECIPE = Recipe(
    name="lenet",
    version=1,
    inputs=(TensorSpec("data", "float32", (BATCH, 1, 32, 32)),),
    output=(BATCH, 10),
    write=write,
)

"""The table of operators: for each kind of ONNX a function that writes it in PyTorch's terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.engines.torch.operators import elementwise, moves, norms, pools, products, resize

if TYPE_CHECKING:
    from raybench.engines.torch.operators.elementwise import Handler

TABLE: dict[str, Handler] = {
    **elementwise.TABLE,
    **moves.TABLE,
    **norms.TABLE,
    **pools.TABLE,
    **products.TABLE,
    **resize.TABLE,
}

"""The fp16 graph: half precision inside, fp32 inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models.conversion import Conversion

if TYPE_CHECKING:
    from pathlib import Path

    from raybench.models.conversion import Fp32Graph


def to_fp16(source: Fp32Graph, target: Path) -> Conversion:
    """Write the graph in half precision to `target` and return how it was made."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = convert_float_to_float16(str(source.path), keep_io_types=True)
    OnnxModel.graph_topological_sort(
        model.graph
    )  # the casts of inputs and outputs were appended last
    big = source.big
    onnx.save_model(
        model, target, save_as_external_data=big, location=f"{target.name}.data" if big else None
    )
    return Conversion()

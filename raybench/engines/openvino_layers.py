"""What OpenVINO made of a graph: the layers of a compiled model and the types that they compute in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from raybench.errors import Unsupported
from raybench.experiment import INT8_WEIGHTS

if TYPE_CHECKING:
    from raybench.models.model import Model

logger = logging.getLogger(__name__)

_PRODUCTS = ("Convolution", "GroupConvolution", "Deconvolution", "FullyConnected", "MatMul")
"""The library's names of layers that multiply by weights or by each other."""


def notes(compiled: Any, model: Model) -> tuple[str, ...]:
    """Return a note if the library computes some products of a quantised graph in float."""
    if not any(name.endswith(":int8") for name in model.reduced_ops or ()):
        return ()
    try:
        infos = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
        products = [
            info["runtimePrecision"].astype(str)
            for info in infos
            if info["layerType"].astype(str) in _PRODUCTS
        ]
    except Exception:
        logger.info("The kernels that OpenVINO chose are unknown", exc_info=True)
        return ()
    in_int8 = sum(precision in ("i8", "u8") for precision in products)
    if in_int8 == len(products):
        return ()
    return (
        f"OpenVINO computes {in_int8} of {len(products)} convolutions and matrix products in int8 "
        "(those that it has not fused with other layers).",
    )


def properties(model: Model) -> dict[str, Any]:
    """Return what to ask of the library beside types: arithmetic in fp32 where weights alone are int8.

    It would else round activations to int8 in groups, and the row would say less than was done.
    """
    return {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0} if model.precision == INT8_WEIGHTS else {}


def refuse_wide_weights(compiled: Any, model: Model) -> None:
    """Refuse a model whose int8 weights the library has widened once for all: it reads as much as fp32.

    Raises:
        Unsupported: it has.
    """
    if model.precision != INT8_WEIGHTS:
        return
    infos = (op.get_rt_info() for op in compiled.get_runtime_model().get_ops())
    kinds = [
        info["runtimePrecision"].astype(str)
        for info in infos
        if info["layerType"].astype(str) == "FullyConnected"
    ]
    narrow = sum(kind in ("i8", "u8") for kind in kinds)
    if not kinds or narrow < len(kinds):
        raise Unsupported(
            f"OpenVINO keeps the weights of {narrow} of {len(kinds)} matrix products of this model in int8 "
            "on this CPU and widens the others when it loads them. Use precision=fp32 or int8."
        )


def fuses_int8_products(compiled: Any) -> bool:
    """Return whether a generated layer (Subgraph) multiplies by int8 weights.

    Version 2026.4.1 fuses consecutive products of small int8 matrices at up to 8 rows so, and
    computes them wrongly: -195 to 0 dB to ONNX Runtime, and 137 dB as layers of their own.
    """
    try:
        return any(
            op.get_rt_info()["layerType"].astype(str) == "Subgraph"
            and any(_is_int8_weight(value.get_node()) for value in op.input_values())
            for op in compiled.get_runtime_model().get_ops()
        )
    except Exception:
        logger.info("The layers that OpenVINO made are unknown", exc_info=True)
        return False


def _is_int8_weight(op: Any) -> bool:
    info = op.get_rt_info()
    return (
        info["layerType"].astype(str) == "Const"
        and info["runtimePrecision"].astype(str) in ("i8", "u8")
        and len(op.get_output_partial_shape(0)) > 1
    )

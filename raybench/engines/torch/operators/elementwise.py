"""Operators that compute each element by itself."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody names it

from raybench.engines.torch.operator_call import torch_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.engines.torch.operator_call import OperatorCall
    from raybench.engines.torch.writer import Value

    Handler = Callable[[OperatorCall], Any]


def _unary(function: Callable[..., Any]) -> Handler:
    return lambda op: op.call(function, op.input())


def _scalar_or_value(value: Value, other: Value) -> Any:
    """Return a constant of one element as a number, unless it widens the shape of the other operand."""
    tensor = value.tensor
    if value.constant and not other.constant and tensor.numel() == 1 and value.rank <= other.rank:
        return tensor.item()
    return value


def _operands(op: OperatorCall) -> tuple[Any, Any]:
    a, b = op.input(0), op.input(1)
    return _scalar_or_value(a, b), _scalar_or_value(b, a)


def _arithmetic(function: Callable[..., Any]) -> Handler:
    return lambda op: op.call(function, *_operands(op))


def _compare(function: Callable[..., Any], mirrored: Callable[..., Any]) -> Handler:
    """Return a handler of a comparison; the first operand of PyTorch's is never a number."""

    def handle(op: OperatorCall) -> Any:
        a, b = _operands(op)
        return op.call(function, a, b) if hasattr(a, "tensor") else op.call(mirrored, b, a)

    return handle


def _logical(function: Callable[..., Any]) -> Handler:
    return lambda op: op.call(function, op.input(0), op.input(1))


def _chain(function: Callable[..., Any]) -> Handler:
    """Return a handler that joins any number of inputs two by two."""

    def handle(op: OperatorCall) -> Any:
        result, *others = op.inputs
        for other in others:
            result = op.call(function, result, other)
        return result

    return handle


def _mean(op: OperatorCall) -> Any:
    total = _chain(torch.add)(op)
    return op.call(torch.mul, total, 1.0 / len(op.inputs))


def _divide(op: OperatorCall) -> Any:
    if op.input().tensor.is_floating_point():
        return op.call(operator.truediv, *_operands(op))
    return op.call(torch.div, op.input(0), op.input(1), rounding_mode="trunc")


def _power(op: OperatorCall) -> Any:
    base, exponent = _operands(op)
    raised = op.call(torch.pow, base, exponent)
    return op.cast(raised, op.input().dtype)


def _modulo(op: OperatorCall) -> Any:
    function = torch.fmod if op.attribute("fmod", 0) else torch.remainder
    return op.call(function, *_operands(op))


def _clip(op: OperatorCall) -> Any:
    low, high = op.maybe(1), op.maybe(2)
    x = op.input()
    bounds: dict[str, Any] = {
        name: _scalar_or_value(value, x)
        for name, value in (("min", low), ("max", high))
        if value is not None
    }
    bounds |= {
        name: given for name in ("min", "max") if (given := op.attribute(name, None)) is not None
    }
    if not bounds:
        return x
    if x.constant or all(not hasattr(bound, "tensor") for bound in bounds.values()):
        return op.call(torch.clamp, x, **bounds)
    for name, function in (("min", torch.maximum), ("max", torch.minimum)):
        if name in bounds:
            bound = bounds[name]
            one_sided = not hasattr(bound, "tensor")
            x = (
                op.call(torch.clamp, x, **{name: bound})
                if one_sided
                else op.call(function, x, bound)
            )
    return x


def _cast(op: OperatorCall) -> Any:
    return op.cast(op.input(), torch_type(op.attribute("to", "float32")))


def _cast_like(op: OperatorCall) -> Any:
    return op.cast(op.input(), op.input(1).dtype)


def _where(op: OperatorCall) -> Any:
    condition, x, y = (op.input(index) for index in range(3))
    return op.call(torch.where, condition, x, y)


def _identity(op: OperatorCall) -> Any:
    return op.input()


def _dropout(op: OperatorCall) -> Any:
    trains = op.constant(2)
    if op.outputs > 1 or (trains is not None and trains.any()):
        raise op.refusal("in training, or with a mask as an output")
    return op.input()


def _gelu(op: OperatorCall) -> Any:
    return op.call(F.gelu, op.input(), approximate=op.attribute("approximate", "none"))


def _with_slope(function: Callable[..., Any], default: float) -> Handler:
    return lambda op: op.call(function, op.input(), float(op.attribute("alpha", default)))


def _selu(op: OperatorCall) -> Any:
    alpha = op.attribute("alpha", 1.67326319217681884765625)
    gamma = op.attribute("gamma", 1.05070102214813232421875)
    return op.call(operator.mul, op.call(F.elu, op.input(), alpha), gamma)


def _hard_sigmoid(op: OperatorCall) -> Any:
    alpha, beta = op.attribute("alpha", 0.2), op.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return op.call(F.hardsigmoid, op.input())
    line = op.call(operator.add, op.call(operator.mul, op.input(), alpha), beta)
    return op.call(torch.clamp, line, min=0.0, max=1.0)


def _swish(op: OperatorCall) -> Any:
    alpha = op.attribute("alpha", 1.0)
    if alpha == 1.0:
        return op.call(F.silu, op.input())
    gate = op.call(torch.sigmoid, op.call(operator.mul, op.input(), alpha))
    return op.call(operator.mul, op.input(), gate)


def prelu(x: Any, slope: Any) -> Any:
    """Return x, and slope times x below 0; the slope is of any shape that fits."""
    return torch.where(x < 0, x * slope, x)


def _prelu(op: OperatorCall) -> Any:
    return op.call(prelu, op.input(0), op.input(1))


TABLE: dict[str, Handler] = {
    **{
        name: _unary(function)
        for name, function in {
            "Abs": torch.abs, "Neg": torch.neg, "Exp": torch.exp, "Log": torch.log,
            "Sqrt": torch.sqrt, "Reciprocal": torch.reciprocal, "Erf": torch.erf,
            "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Relu": torch.relu,
            "HardSwish": F.hardswish, "Mish": F.mish, "Softplus": F.softplus,
            "Softsign": F.softsign, "Floor": torch.floor, "Ceil": torch.ceil,
            "Round": torch.round, "Sign": torch.sign, "Sin": torch.sin, "Cos": torch.cos,
            "Tan": torch.tan, "Atan": torch.atan, "Not": torch.logical_not, "IsNaN": torch.isnan,
        }.items()
    },
    **{
        name: _arithmetic(function)
        for name, function in {
            "Add": operator.add, "Sub": operator.sub, "Mul": operator.mul,
        }.items()
    },
    **{
        name: _compare(function, mirrored)
        for name, function, mirrored in (
            ("Equal", torch.eq, torch.eq), ("Less", torch.lt, torch.gt),
            ("LessOrEqual", torch.le, torch.ge), ("Greater", torch.gt, torch.lt),
            ("GreaterOrEqual", torch.ge, torch.le),
        )
    },
    **{
        name: _logical(function)
        for name, function in {
            "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
        }.items()
    },
    "Min": _chain(torch.minimum),
    "Max": _chain(torch.maximum),
    "Sum": _chain(torch.add),
    "Mean": _mean,
    "Div": _divide,
    "Pow": _power,
    "Mod": _modulo,
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Where": _where,
    "Identity": _identity,
    "Dropout": _dropout,
    "Gelu": _gelu,
    "LeakyRelu": _with_slope(F.leaky_relu, 0.01),
    "Elu": _with_slope(F.elu, 1.0),
    "Celu": _with_slope(F.celu, 1.0),
    "Selu": _selu,
    "HardSigmoid": _hard_sigmoid,
    "Swish": _swish,
    "PRelu": _prelu,
}  # fmt: skip

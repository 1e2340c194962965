"""Operators that compute each element by itself."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody names it

from raybench.engines.torch.step import torch_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.engines.torch.step import Step
    from raybench.engines.torch.writer import Value

    Handler = Callable[[Step], Any]


def _unary(function: Callable[..., Any]) -> Handler:
    return lambda step: step.call(function, step.input())


def _scalar_or_value(value: Value, other: Value) -> Any:
    """Return a constant of one element as a number, unless it widens the shape of the other operand."""
    tensor = value.tensor
    if value.constant and not other.constant and tensor.numel() == 1 and value.rank <= other.rank:
        return tensor.item()
    return value


def _operands(step: Step) -> tuple[Any, Any]:
    a, b = step.input(0), step.input(1)
    return _scalar_or_value(a, b), _scalar_or_value(b, a)


def _arithmetic(function: Callable[..., Any]) -> Handler:
    return lambda step: step.call(function, *_operands(step))


def _compare(function: Callable[..., Any], mirrored: Callable[..., Any]) -> Handler:
    """Return a handler of a comparison; the first operand of PyTorch's is never a number."""

    def handle(step: Step) -> Any:
        a, b = _operands(step)
        return step.call(function, a, b) if hasattr(a, "tensor") else step.call(mirrored, b, a)

    return handle


def _logical(function: Callable[..., Any]) -> Handler:
    return lambda step: step.call(function, step.input(0), step.input(1))


def _chain(function: Callable[..., Any]) -> Handler:
    """Return a handler that joins any number of inputs two by two."""

    def handle(step: Step) -> Any:
        result, *others = step.inputs
        for other in others:
            result = step.call(function, result, other)
        return result

    return handle


def _mean(step: Step) -> Any:
    total = _chain(torch.add)(step)
    return step.call(torch.mul, total, 1.0 / len(step.inputs))


def _divide(step: Step) -> Any:
    if step.input().tensor.is_floating_point():
        return step.call(operator.truediv, *_operands(step))
    return step.call(torch.div, step.input(0), step.input(1), rounding_mode="trunc")


def _power(step: Step) -> Any:
    base, exponent = _operands(step)
    raised = step.call(torch.pow, base, exponent)
    return step.cast(raised, step.input().dtype)


def _modulo(step: Step) -> Any:
    function = torch.fmod if step.attribute("fmod", 0) else torch.remainder
    return step.call(function, *_operands(step))


def _clip(step: Step) -> Any:
    low, high = step.maybe(1), step.maybe(2)
    x = step.input()
    bounds: dict[str, Any] = {
        name: _scalar_or_value(value, x)
        for name, value in (("min", low), ("max", high))
        if value is not None
    }
    bounds |= {
        name: given for name in ("min", "max") if (given := step.attribute(name, None)) is not None
    }
    if not bounds:
        return x
    if x.constant or all(not hasattr(bound, "tensor") for bound in bounds.values()):
        return step.call(torch.clamp, x, **bounds)
    for name, function in (("min", torch.maximum), ("max", torch.minimum)):
        if name in bounds:
            bound = bounds[name]
            one_sided = not hasattr(bound, "tensor")
            x = (
                step.call(torch.clamp, x, **{name: bound})
                if one_sided
                else step.call(function, x, bound)
            )
    return x


def _cast(step: Step) -> Any:
    return step.cast(step.input(), torch_type(step.attribute("to", "float32")))


def _cast_like(step: Step) -> Any:
    return step.cast(step.input(), step.input(1).dtype)


def _where(step: Step) -> Any:
    condition, x, y = (step.input(index) for index in range(3))
    return step.call(torch.where, condition, x, y)


def _identity(step: Step) -> Any:
    return step.input()


def _dropout(step: Step) -> Any:
    trains = step.constant(2)
    if step.outputs > 1 or (trains is not None and trains.any()):
        raise step.refusal("in training, or with a mask as an output")
    return step.input()


def _gelu(step: Step) -> Any:
    return step.call(F.gelu, step.input(), approximate=step.attribute("approximate", "none"))


def _with_slope(function: Callable[..., Any], default: float) -> Handler:
    return lambda step: step.call(function, step.input(), float(step.attribute("alpha", default)))


def _selu(step: Step) -> Any:
    alpha = step.attribute("alpha", 1.67326319217681884765625)
    gamma = step.attribute("gamma", 1.05070102214813232421875)
    return step.call(operator.mul, step.call(F.elu, step.input(), alpha), gamma)


def _hard_sigmoid(step: Step) -> Any:
    alpha, beta = step.attribute("alpha", 0.2), step.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return step.call(F.hardsigmoid, step.input())
    line = step.call(operator.add, step.call(operator.mul, step.input(), alpha), beta)
    return step.call(torch.clamp, line, min=0.0, max=1.0)


def _swish(step: Step) -> Any:
    alpha = step.attribute("alpha", 1.0)
    if alpha == 1.0:
        return step.call(F.silu, step.input())
    gate = step.call(torch.sigmoid, step.call(operator.mul, step.input(), alpha))
    return step.call(operator.mul, step.input(), gate)


def prelu(x: Any, slope: Any) -> Any:
    """Return x, and slope times x below 0; the slope is of any shape that fits."""
    return torch.where(x < 0, x * slope, x)


def _prelu(step: Step) -> Any:
    return step.call(prelu, step.input(0), step.input(1))


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

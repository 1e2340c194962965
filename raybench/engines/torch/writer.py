"""Writing a torch.fx graph: calls of PyTorch's functions on values whose shapes are known.

Every dimension is a number, since a point has one batch. So shapes that a graph computes are constants
here, and what follows from constants alone is computed once, while the graph is written.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, eq=False)
class Value:
    """A value of the graph.

    Attributes:
        tensor: the content of a constant; of any other value a tensor without content (device "meta")
            that has its type and shape.
        node: what computes it in the stream; None for a constant.
    """

    tensor: Any
    node: Any = None

    @property
    def constant(self) -> bool:
        """Whether it is the same for every batch."""
        return self.node is None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return its dimensions."""
        return tuple(self.tensor.shape)

    @property
    def rank(self) -> int:
        """Return the number of its dimensions."""
        return len(self.tensor.shape)

    @property
    def dtype(self) -> Any:
        """Return its element type, PyTorch's."""
        return self.tensor.dtype


class FxWriter:
    """The graph that is being written.

    Attributes:
        weights: constants that calls read in the stream, by their name in the module.
    """

    def __init__(self) -> None:
        self._graph = fx.Graph()
        self.weights: dict[str, Any] = {}
        self._nodes: dict[int, Any] = {}  # of constants, by the identity of their value
        self._kept: list[Value] = []  # identities are valid while their values live

    def input(self, dtype: Any, shape: Sequence[int]) -> Value:
        """Add an input of the module."""
        node = self._graph.placeholder(f"input_{len(self._graph.nodes)}")
        return Value(torch.empty(tuple(shape), dtype=dtype, device="meta"), node)

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Add a call; the result is a value, or a tuple of values where the function returns several.

        Args:
            function: of PyTorch, or one that traces through.
            *arguments: values, numbers, slices and lists of them.
            **keywords: the same, by name.
        """
        everything = (arguments, keywords)
        if not any(not value.constant for value in _values(everything)):
            arguments, keywords = _mapped(everything, lambda value: value.tensor)
            with torch.no_grad():
                return _results(function(*arguments, **keywords))
        meta_arguments, meta_keywords = _mapped(everything, lambda v: v.tensor.to("meta"))
        with torch.no_grad():
            tensors = function(*meta_arguments, **meta_keywords)
        arguments, keywords = _mapped(everything, self._node_of)
        node = self._graph.call_function(function, tuple(arguments), dict(keywords))
        if isinstance(tensors, torch.Tensor):
            return Value(tensors, node)
        return tuple(
            Value(tensor, self._graph.call_function(operator.getitem, (node, index)))
            for index, tensor in enumerate(tensors)
        )

    def module(self, outputs: Sequence[Value]) -> Any:
        """Return the module that computes these values, as a tuple, with its weights as buffers."""
        self._graph.output(tuple(self._node_of(value) for value in outputs))
        self._graph.eliminate_dead_code()
        read = {node.target for node in self._graph.nodes if node.op == "get_attr"}
        root = torch.nn.Module()
        for name, tensor in self.weights.items():
            if name in read:
                root.register_buffer(name, tensor)
        self._graph.lint()
        return fx.GraphModule(root, self._graph).eval()

    def _node_of(self, value: Value) -> Any:
        if not value.constant:
            return value.node
        if id(value) not in self._nodes:
            name = f"weight_{len(self.weights)}"
            self.weights[name] = value.tensor
            self._nodes[id(value)] = self._graph.get_attr(name)
            self._kept.append(value)
        return self._nodes[id(value)]


def _results(result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        return Value(result)
    return tuple(Value(tensor) for tensor in result)


def _values(argument: Any) -> list[Value]:
    if isinstance(argument, Value):
        return [argument]
    if isinstance(argument, (list, tuple)):
        return [value for item in argument for value in _values(item)]
    return _values(tuple(argument.values())) if isinstance(argument, dict) else []


def _mapped(argument: Any, change: Callable[[Value], Any]) -> Any:
    """Return arguments with each value in them replaced."""
    if isinstance(argument, Value):
        return change(argument)
    if isinstance(argument, (list, tuple)):
        kind = type(argument)
        return kind(_mapped(item, change) for item in argument)
    if isinstance(argument, dict):
        return {name: _mapped(item, change) for name, item in argument.items()}
    return argument

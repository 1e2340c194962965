"""Seeded mutations of graphs: what exporters, optimisers, hand edits and broken copies do to a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from helpers.graph_cases import CASES
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Mutation = Callable[[np.random.Generator, onnx.ModelProto], None]

MUTATIONS: list[Mutation] = []
LEFT_OUT = {"empty", "string_output", "rms_half", "onlyrelu"}
"""Cases that mutations add nothing to, or that are large."""

TYPES = [
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.DOUBLE,
    TensorProto.INT64,
    TensorProto.INT8,
    TensorProto.BOOL,
    TensorProto.STRING,
    TensorProto.BFLOAT16,
]


def mutated(seed: int, folder: Path) -> tuple[Path, str]:
    """Write one mutated graph into a folder; return its path and what was done to it."""
    rng = np.random.default_rng(seed)
    name = str(rng.choice(sorted(set(CASES) - LEFT_OUT)))
    model = CASES[name].build()
    chosen = rng.choice(len(MUTATIONS), size=int(rng.integers(1, 3)), replace=False)
    done = sorted((MUTATIONS[index] for index in chosen), key=lambda mutate: mutate is no_outputs)
    for mutate in done:
        mutate(rng, model)
    path = folder / f"{name}_{seed}.onnx"
    data = model.SerializeToString()
    if rng.random() < 0.05:
        data, done = data[: int(len(data) * rng.random())], [*done, _cut]
    path.write_bytes(data)
    return path, f"{name}: {', '.join(mutate.__name__ for mutate in done)}"


def _cut(_rng: np.random.Generator, _model: onnx.ModelProto) -> None:
    """Stand for a copy that was cut off."""


def mutation(mutate: Mutation) -> Mutation:
    """Register a mutation."""
    MUTATIONS.append(mutate)
    return mutate


def _any(rng: np.random.Generator, entries):
    """Return one of the entries; None if there is none."""
    return entries[int(rng.integers(len(entries)))] if len(entries) else None


# --- names ----------------------------------------------------------------------------------------


@mutation
def nodes_without_names(rng, model):
    for node in model.graph.node:
        node.name = ""


@mutation
def one_name_for_all_nodes(rng, model):
    for node in model.graph.node:
        node.name = "node"


@mutation
def odd_names_of_values(rng, model):
    odd = str(
        rng.choice(["a b", "a/b:0", "ä", "x.y", "=", "{x}", "[0]", "'", "#", "-1", "..", "N"])
    )
    _rename(model.graph, model.graph.input[0].name, odd)


@mutation
def an_output_with_an_empty_name(rng, model):
    model.graph.output[0].name = ""


@mutation
def the_same_output_twice(rng, model):
    model.graph.output.append(model.graph.output[0])


@mutation
def a_value_that_is_made_twice(rng, model):
    node = _any(rng, model.graph.node)
    model.graph.node.append(node)


@mutation
def a_graph_without_a_name(rng, model):
    model.graph.name = ""


@mutation
def a_weight_named_as_the_input(rng, model):
    weight = _any(rng, model.graph.initializer)
    if weight is not None:
        weight.name = model.graph.input[0].name


def _rename(graph, old, new):
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = new if value.name == old else value.name
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = new if name == old else name
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, old, new)


# --- nodes and attributes -------------------------------------------------------------------------


@mutation
def no_optional_attributes(rng, model):
    for node in model.graph.node:
        if node.op_type not in ("Constant", "If", "Cast", "LSTM"):
            del node.attribute[:]


@mutation
def an_attribute_nobody_knows(rng, model):
    _any(rng, model.graph.node).attribute.append(helper.make_attribute("odd", 1))


@mutation
def an_attribute_of_another_type(rng, model):
    node = _any(rng, [node for node in model.graph.node if node.attribute])
    if node is not None:
        name = node.attribute[0].name
        del node.attribute[:]
        node.attribute.append(helper.make_attribute(name, "text"))


@mutation
def a_node_less(rng, model):
    model.graph.node.remove(_any(rng, model.graph.node))


@mutation
def nodes_out_of_order(rng, model):
    model.graph.node.reverse()


@mutation
def an_operator_nobody_knows(rng, model):
    _any(rng, model.graph.node).op_type = "Frobnicate"


@mutation
def a_domain_nobody_knows(rng, model):
    _any(rng, model.graph.node).domain = "com.example"
    if rng.random() < 0.5:
        model.opset_import.append(helper.make_opsetid("com.example", 1))


@mutation
def an_input_less(rng, model):
    node = _any(rng, [node for node in model.graph.node if node.input])
    if node is not None:
        node.input[int(rng.integers(len(node.input)))] = ""


@mutation
def a_cycle(rng, model):
    node = _any(rng, [node for node in model.graph.node if node.input])
    if node is not None:
        node.input[0] = node.output[0]


@mutation
def a_sequence_output(rng, model):
    output = model.graph.output[0]
    model.graph.node.append(helper.make_node("SequenceConstruct", [output.name], ["list"], "seq"))
    info = helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None)
    model.graph.output.append(info)


@mutation
def a_random_node(rng, model):
    shape = helper.make_node("RandomNormalLike", [model.graph.input[0].name], ["noise"], "rnd")
    model.graph.node.append(shape)
    model.graph.output.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, None))


@mutation
def a_local_function(rng, model):
    body = [helper.make_node("Relu", ["a"], ["b"])]
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("local", "Mine", ["a"], ["b"], body, imports)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    name = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Mine", [name], ["mine"], "m", domain="local"))
    model.graph.output.append(helper.make_tensor_value_info("mine", TensorProto.FLOAT, None))


# --- weights --------------------------------------------------------------------------------------


@mutation
def weights_as_constant_nodes(rng, model):
    graph = model.graph
    for index, weight in enumerate(graph.initializer):
        graph.node.insert(
            0, helper.make_node("Constant", [], [weight.name], f"k{index}", value=weight)
        )
    del graph.initializer[:]


@mutation
def weights_listed_as_inputs(rng, model):
    for weight in model.graph.initializer:
        info = helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
        model.graph.input.append(info)


@mutation
def weights_that_are_not_numbers(rng, model):
    _change_weight(
        rng, model, lambda values: values * np.float32(rng.choice([np.nan, np.inf, 1e30, 0]))
    )


@mutation
def weights_of_another_type(rng, model):
    kind = str(rng.choice(["float16", "float64", "int32", "int8"]))
    _change_weight(rng, model, lambda values: values.astype(kind))


@mutation
def weights_of_another_shape(rng, model):
    _change_weight(rng, model, lambda values: values[..., None] if rng.random() < 0.5 else values.T)


@mutation
def weights_of_no_elements(rng, model):
    _change_weight(rng, model, lambda values: values[:0] if values.ndim else values)


@mutation
def fewer_bytes_than_the_shape_says(rng, model):
    weight = _any(rng, model.graph.initializer)
    if weight is not None:
        weight.raw_data = weight.raw_data[:-1]


@mutation
def external_data_that_is_missing(rng, model):
    _external(rng, model, "nowhere.bin")


@mutation
def external_data_outside(rng, model):
    _external(rng, model, str(rng.choice(["../../etc/passwd", "/etc/passwd", "", "."])))


@mutation
def weights_in_a_branch(rng, model):
    graph = model.graph
    name = graph.output[0].name
    weight = numpy_helper.from_array(np.array(2, np.float32), "two")
    outs = [
        helper.make_tensor_value_info(f"{branch}_z", TensorProto.FLOAT, None) for branch in "ab"
    ]
    branches = [
        helper.make_graph(
            [helper.make_node("Mul", [name, "two"], [f"{branch}_z"])], branch, [], [out], [weight]
        )
        for branch, out in zip("ab", outs, strict=True)
    ]
    graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    node = helper.make_node(
        "If", ["always"], ["branched"], "if2", then_branch=branches[0], else_branch=branches[1]
    )
    graph.node.append(node)
    graph.output.append(helper.make_tensor_value_info("branched", TensorProto.FLOAT, None))


def _change_weight(rng, model, change):
    weights = [
        weight
        for weight in model.graph.initializer
        if weight.data_type == TensorProto.FLOAT and not weight.external_data
    ]
    weight = _any(rng, weights)
    if weight is not None:
        values = np.ascontiguousarray(change(numpy_helper.to_array(weight)))
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def _external(rng, model, location):
    weight = _any(rng, model.graph.initializer)
    if weight is not None:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        entry = weight.external_data.add()
        entry.key, entry.value = "location", location


# --- inputs, outputs, dimensions ------------------------------------------------------------------


@mutation
def outputs_reversed(rng, model):
    model.graph.output.reverse()


@mutation
def an_input_as_an_output(rng, model):
    model.graph.output.append(model.graph.input[0])


@mutation
def a_weight_as_an_output(rng, model):
    weight = _any(rng, model.graph.initializer)
    if weight is not None:
        info = helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
        model.graph.output.append(info)


@mutation
def an_output_that_nobody_makes(rng, model):
    model.graph.output.append(helper.make_tensor_value_info("nobody", TensorProto.FLOAT, [1]))


@mutation
def no_outputs(rng, model):
    del model.graph.output[:]


@mutation
def an_input_that_nobody_reads(rng, model):
    kind = int(rng.choice(TYPES))
    model.graph.input.append(helper.make_tensor_value_info("spare", kind, ["batch", 3]))


@mutation
def an_input_of_another_type(rng, model):
    model.graph.input[0].type.tensor_type.elem_type = int(rng.choice(TYPES))


@mutation
def an_output_of_another_type(rng, model):
    output = _any(rng, model.graph.output)
    if output is not None:
        output.type.tensor_type.elem_type = int(rng.choice(TYPES))


@mutation
def an_input_without_a_rank(rng, model):
    model.graph.input[0].type.tensor_type.ClearField("shape")


@mutation
def a_dimension_without_a_name(rng, model):
    _change_dim(rng, model, None)


@mutation
def a_dimension_with_an_odd_name(rng, model):
    _change_dim(rng, model, str(rng.choice(["?", "a.b", "height*2", "N", "None", "", "é", "x y"])))


@mutation
def a_dimension_of_odd_size(rng, model):
    _change_dim(rng, model, int(rng.choice([-1, -7, 0, 2**31, 2**62, 1, 3])))


@mutation
def an_output_of_odd_shape(rng, model):
    shape = [[0], [-1, -1], [2**40], ["a", "a"], []][int(rng.integers(5))]
    output = model.graph.output[0]
    output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shape))


def _change_dim(rng, model, size):
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dim = _any(rng, dims)
    if dim is not None:
        dim.Clear()
        if isinstance(size, int):
            dim.dim_value = size
        elif size is not None:
            dim.dim_param = size


# --- versions -------------------------------------------------------------------------------------


@mutation
def another_opset(rng, model):
    model.opset_import[0].version = int(rng.integers(7, 24))


@mutation
def an_opset_from_the_future(rng, model):
    model.opset_import[0].version = 99


@mutation
def no_opset(rng, model):
    del model.opset_import[:]


@mutation
def another_ir_version(rng, model):
    model.ir_version = int(rng.choice([0, 1, 3, 4, 10, 99]))

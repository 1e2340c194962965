"""The table of engine `torch` against ONNX's own cases: each operator computes what they expect, or is refused."""

from __future__ import annotations

import re
import warnings
from collections import Counter

import numpy as np
import onnx
import pytest
from helpers.needs_torch import needs_torch
from onnx import numpy_helper

from raybench.errors import PointError
from raybench.models.graph.normal_form import normalise
from raybench.models.graph.operations import read_operations
from raybench.models.model import Model, TensorSpec

pytestmark = needs_torch

LEFT_OUT = re.compile(
    r"uint(16|32|64)|UINT|INT2|INT4|FLOAT4|FLOAT8|string|bfloat16|BFLOAT16"  # types that it lacks
    r"|top_k_same_values"  # ties, whose order ONNX fixes and PyTorch does not
    r"|gather_negative_indices"  # of data that varies: an error in the stream
    r"|_expanded"  # the same with other operators
)
KINDS_AT_LEAST = 100
"""Of the table, with a case that passes; the others have inputs that cannot vary, or no case."""


def array_of(value):
    return (
        numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    )


def prepared(case, folder, shapes_are_constants):
    """Return a case's model, its graph, and the inputs that are fed."""
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    values = dict(
        zip((each.name for each in proto.graph.input), case.data_sets[0][0], strict=False)
    )
    names = list(values)[:1] if shapes_are_constants else list(values)
    for name in values.keys() - set(names):
        proto.graph.initializer.append(numpy_helper.from_array(array_of(values[name]), name))
    kept = [each for each in list(proto.graph.input) if each.name in names]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    path = folder / "case.onnx"
    onnx.save(normalise(proto, fold=False), path)
    fed = {name: array_of(values[name]) for name in names}
    specs = tuple(TensorSpec(name, array.dtype.name, array.shape) for name, array in fed.items())
    model = Model(case.name, "fp32", None, path, "", specs, (), 0, None, path, "", frozenset())
    return model, read_operations(path), fed


def computed(case, folder):
    """Return the outputs of a case; raises PointError where it is refused."""
    import torch

    from raybench.engines.torch.conversion import convert, tensor_of
    from raybench.engines.torch.cpu_runner import numpy_of

    for shapes_are_constants in (False, True):
        model, graph, fed = prepared(case, folder, shapes_are_constants)
        try:
            module = convert(model, graph, 1)
        except PointError:
            if shapes_are_constants:
                raise
            continue
        with torch.inference_mode():
            return [numpy_of(each) for each in module(*(tensor_of(a.copy()) for a in fed.values()))]
    raise AssertionError("unreachable")


def cases():
    from onnx.backend.test.case.node import collect_testcases

    from raybench.engines.torch.operators.table import TABLE

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return [
        case
        for case in found
        if not LEFT_OUT.search(case.name)
        and not case.model.functions
        and {node.op_type for node in case.model.graph.node} <= set(TABLE)
    ]


@pytest.mark.slow
def test_each_operator_computes_what_onnx_expects_or_is_refused(tmp_path):
    wrong, kinds = [], Counter()
    for case in cases():
        try:
            results = computed(case, tmp_path)
        except PointError:
            continue
        for result, expected in zip(results, map(array_of, case.data_sets[0][1]), strict=True):
            alike = result.shape == expected.shape and result.dtype == expected.dtype
            if not alike or not np.allclose(result, expected, rtol=1e-3, atol=1e-5, equal_nan=True):
                wrong.append(case.name)
        kinds.update({node.op_type for node in case.model.graph.node})
    assert wrong == []
    assert len(kinds) >= KINDS_AT_LEAST

"""From a built module to an ONNX file with an open batch, compared with the module before it is kept.

The exporter is torch's older one, which traces: it writes opset 17, which TensorRT 8.6 reads. The newer one
writes 18 at least, where reductions take their axes as an input, and converts none of its graphs to 17.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raybench.models.conversion import EXTERNAL_ABOVE_BYTES, save
from raybench.models.model import BATCH
from raybench.models.named.module import NotTheSameError, tensors_of
from raybench.models.named.random_weights import seed_all, settle
from raybench.models.provenance import Provenance

if TYPE_CHECKING:
    from types import ModuleType

    import torch

    from raybench.models.named.module import BuiltModule, ExportStep

    Tensors = dict[str, torch.Tensor]

OPSET = 17
_TRACED, _COMPARED = 2, 3
"""Items of the batch that is traced, and of another that shows whether the batch is really open."""
_TOLERANCE = 0.01
"""Largest difference between graph and module, as a share of the module's largest output."""


def export(library: ModuleType, request: dict[str, Any], step: ExportStep) -> dict[str, Any]:
    """Write the ONNX file of a request and return facts about it.

    Raises:
        NotTensorsError: the module returns no tensors.
        NotTheSameError: the graph computes something else than the module.
    """
    import torch

    torch.set_grad_enabled(False)
    step.now = "building the module"
    seed_all(request["seed"])
    built: BuiltModule = library.build(request)
    built.module.eval()
    examples = _examples(request, _TRACED)
    step.now = f"running it once with {_in_words(examples)}"
    step.depends_on_sizes = True
    if not request["weights"]:
        settle(built.module, lambda: built(examples))
    outputs, dropped = tensors_of(built(examples))
    step.now, step.depends_on_sizes = "torch.onnx.export", False
    target = Path(request["target"])
    facts = _provenance(request, built, dropped)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        traced = Path(scratch) / "traced.onnx"
        _trace(built, examples, list(outputs), traced)
        _finish(traced, facts, target)
    step.now = "comparing the graph with the module"
    _compare(request["model"], built, _examples(request, _COMPARED), target)
    return {"parameters": facts.parameters}


def _examples(request: dict[str, Any], batch: int) -> Tensors:
    """Return random inputs, as the measured ones are: uniform, and within the range of integers."""
    import torch

    examples = {}
    for name, dtype, dims in request["inputs"]:
        shape = [batch if dim == BATCH else dim for dim in dims]
        if dtype == "int64":
            low, high = request["provenance"]["ranges"][name]
            examples[name] = torch.randint(low, high + 1, shape)
        else:
            examples[name] = torch.rand(shape) * 2 - 1
    return examples


def _in_words(examples: Tensors) -> str:
    sizes = (
        f"{name} of {'x'.join(map(str, (BATCH, *one.shape[1:])))}" for name, one in examples.items()
    )
    return ", ".join(sizes)


def _provenance(request: dict[str, Any], built: BuiltModule, dropped: list[str]) -> Provenance:
    given = request["provenance"]
    left_out = [f"Left out of the outputs: {', '.join(dropped)}."] * bool(dropped)
    parameters = sum(weight.numel() for weight in built.module.parameters())
    notes = [*given["notes"], *built.notes, *left_out]
    return Provenance(**{**given, "parameters": parameters, "notes": notes})


def _trace(built: BuiltModule, examples: Tensors, outputs: list[str], path: Path) -> None:
    """Write the graph that a forward pass computes."""
    import torch

    class Traced(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.module = built.module

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            result = built(dict(zip(examples, tensors, strict=True)))
            return tuple(tensors_of(result)[0].values())

    names = {name: {0: BATCH} for name in [*examples, *outputs]}
    torch.onnx.export(
        Traced().eval(),
        tuple(examples.values()),
        str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=list(examples),
        output_names=outputs,
        dynamic_axes=names,
    )


def _finish(traced: Path, provenance: Provenance, target: Path) -> None:
    """Write a traced graph as it is kept: its weights in one file at most, without paths of this machine."""
    import onnx

    size_bytes = sum(file.stat().st_size for file in traced.parent.iterdir())
    proto = onnx.load(traced)
    for node in proto.graph.node:
        node.ClearField("doc_string")
    provenance.write(proto)
    save(proto, target, size_bytes > EXTERNAL_ABOVE_BYTES)


def _compare(model: str, built: BuiltModule, examples: Tensors, graph: Path) -> None:
    """Refuse a graph that computes something else than its module for another batch than the traced one.

    Raises:
        NotTheSameError: naming the output and the difference.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    fed = {each.name: examples[each.name].numpy() for each in session.get_inputs()}
    expected = tensors_of(built(examples))[0]
    for (name, wanted), found in zip(expected.items(), session.run(None, fed), strict=True):
        values = wanted.double().numpy()
        if found.shape != values.shape:
            raise NotTheSameError(f"output {name!r} has shape {found.shape}, not {values.shape}")
        largest = abs(values).max(initial=0.0)
        apart = abs(found.astype(values.dtype) - values).max(initial=0.0)
        if not apart <= _TOLERANCE * largest + 1e-6:
            raise NotTheSameError(
                f"output {name!r} differs by {apart:.3g} where {largest:.3g} is largest"
            )

"""Real builds without a GPU: parser and builder of TensorRT for RTX take what the project makes.

They stand for those of TensorRT 10 and 11, which need a GPU: all of them take strongly typed graphs
through one code path. The transformers have one of their equal blocks here, and tables of embeddings few rows.
"""

from __future__ import annotations

import json
import re
import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from helpers import tiny_decoder
from helpers.graph_cases import CASES
from helpers.tiny_graphs import graph_of
from onnx import TensorProto, helper

from raybench.engines.base import Load
from raybench.engines.tensorrt import builder, library, targets
from raybench.engines.tensorrt.builder import order_of
from raybench.engines.tensorrt.engine import MIN_CAPABILITY, TensorRTRtxEngine
from raybench.engines.tensorrt.settings import RtxSettings
from raybench.errors import ModelError, Unsupported
from raybench.experiment import AS_IS, QUANTISED, ModelSettings
from raybench.machine.devices import Device
from raybench.models import transformer, zoo
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare
from raybench.models.zoo import bert_base, dlrm, minilm_l6, whisper_base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from helpers.fake_gpu import FakeGpu
    from helpers.graph_cases import GraphCase

    Make = Callable[..., Load]

pytest.importorskip(
    "tensorrt_rtx_bindings",
    reason="tensorrt-rtx-cu12-bindings is not installed: make test installs it on x86-64 Linux",
)
PRECISIONS = [name for name in MIN_CAPABILITY if name != AS_IS]
LARGE = ("whisper_base", "yolov8s")
"""Built in fp16 only: each other precision is tens of seconds of work."""
SLOW = ("alexnet", "resnet50", *LARGE)
NETWORKS = [
    pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
    for name in zoo.names()
    # neither has a form in every precision
    if name not in ("gemm", "copy") and not name.startswith("decoder_")
]
BENIGN = r"Int64 binding|Converting conv (activation|weight) scales to fp32"
"""Warnings: token ids are int64; scales are in fp16 in int8_fp16, as types of ONNX demand."""
ANY_GPU = Device("gpu", "no GPU", 0, None, "0")


TABLES = ((bert_base, "_WORDS"), (minilm_l6, "_WORDS"), (dlrm, "_ROWS"))
ROWS = 100
"""Of the tables of embeddings here."""


def zoo_ranges(name: str) -> Mapping[str, tuple[int, int]]:
    """Return the ranges of the integer inputs of a network of the zoo; none of others."""
    return zoo.RECIPES[name].ranges if name in zoo.RECIPES else {}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The cache of the graphs, which are large: pytest would keep its own folders."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        patch.setattr(transformer, "BLOCKS", 1)
        for module in (minilm_l6, whisper_base):
            patch.setattr(module, "_BLOCKS", 1)
        for module, table in TABLES:
            patch.setattr(module, table, ROWS)
        tiny_decoder.shrink(patch)
        yield Path(name)


@pytest.fixture(scope="module")
def make(folder: Path) -> Make:
    """A load of a model for a GPU that is not here."""

    def make_load(name: str, precision: str = "fp32", batch_size: int = 1, **options: Any) -> Load:
        dialect = TensorRTRtxEngine.traits.int8_dialect
        indices = [each for each in ("input_ids", "categories") if each in zoo_ranges(name)]
        settings = ModelSettings(ranges={each: [0, ROWS - 1] for each in indices})
        model = prepare(name, settings, precision, dialect, folder)
        pool = BatchPool(model.fed_inputs, batch_size, 0, model.ranges, min_bytes=1)
        return Load(model, pool, ANY_GPU, 1, True, RtxSettings(**options), None, folder)

    return make_load


@pytest.fixture(scope="module")
def plan_bytes(make: Make) -> Callable[[str, str], int]:
    """Size of the plan of a network in a precision; it is built once and not stored."""
    trt = library.load(library.RTX)

    @cache
    def size(network: str, precision: str) -> int:
        library.logger(trt)[1].clear()
        plan = builder.build(trt, order_of(make(network, precision)), None).plan
        assert [line for line in problems() if not re.search(BENIGN, line)] == []
        return len(plan)

    return size


def problems() -> list[str]:
    """Return what the library has logged about the last build."""
    return list(library.logger(library.load(library.RTX))[1].lines())


def built(load: Load) -> tuple[int, dict[str, Any]]:
    """Build a plan into the cache; return its size in bytes and its facts."""
    plan, header = (load.cache_dir / name for name in TensorRTRtxEngine.prebuild(load))
    return plan.stat().st_size, json.loads(header.read_text())["facts"]


@pytest.mark.parametrize(
    ("network", "precision"),
    [
        pytest.param(network.values[0], precision, marks=network.marks)
        for network in NETWORKS
        for precision in PRECISIONS
        if network.values[0] not in LARGE or precision == "fp16"
    ],
)
def test_the_builder_takes_every_network_in_every_precision(
    plan_bytes: Callable[[str, str], int], network: str, precision: str
) -> None:
    assert plan_bytes(network, precision) > 0


@pytest.mark.parametrize("precision", [p for p in PRECISIONS if p not in QUANTISED])
@pytest.mark.parametrize("part", ["prefill", "step"])
def test_the_builder_takes_both_parts_of_a_decoder(
    plan_bytes: Callable[[str, str], int], part: str, precision: str
) -> None:
    assert plan_bytes(f"decoder_125m_{part}", precision) > 0


MOSTLY_WEIGHTS = [p for p in NETWORKS if p.values[0] not in ("lenet", "dlrm", *LARGE)]
"""Plans of the smallest are mostly kernels here."""


@pytest.mark.parametrize("network", MOSTLY_WEIGHTS)
def test_a_plan_holds_its_weights_in_the_precision_of_the_graph(
    plan_bytes: Callable[[str, str], int], network: str
) -> None:
    full, half, quarter = (plan_bytes(network, name) for name in ("fp32", "fp16", "int8"))
    assert plan_bytes(network, "tf32") == full
    assert half < 0.6 * full
    assert quarter < 0.8 * half
    assert plan_bytes(network, "int8_fp16") < 1.02 * quarter


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_builder_takes_the_products_of_gemm(
    plan_bytes: Callable[[str, str], int], precision: str
) -> None:
    matrix = 2048**2 * {"fp32": 4, "fp16": 2, "int8": 1}[precision]
    assert matrix < plan_bytes("gemm", precision) < 2 * matrix  # once, not for every product


def test_the_builder_takes_the_copy(plan_bytes: Callable[[str, str], int]) -> None:
    assert plan_bytes("copy", "fp32") > 0


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_other_peoples_graphs_are_built_in_whatever_precision_they_can_be_made(
    make: Make, tmp_path: Path, case: GraphCase
) -> None:
    path = tmp_path / f"{case.name}.onnx"
    onnx.save(case.build(), path)
    loads = []
    for precision in (*PRECISIONS, AS_IS):
        with suppress(ModelError, Unsupported):  # no graph of that precision, on any engine
            loads.append(make(str(path), precision, 2))
    for load in loads:
        if (case.name, load.model.precision) == ("dynquant_ms", AS_IS):
            with pytest.raises(Unsupported, match="parser refuses the model at node 'dq'"):
                built(load)  # an operator of ONNX Runtime's own
        else:
            assert built(load)[0] > 0


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_one_dynamic_plan_serves_all_batches(make: Make, precision: str) -> None:
    one = TensorRTRtxEngine.prebuild(make("lenet", precision, 1, largest_batch=8))
    assert TensorRTRtxEngine.prebuild(make("lenet", precision, 5, largest_batch=8)) == one
    assert TensorRTRtxEngine.prebuild(make("lenet", precision, 5)) != one


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_file_that_comes_reduced_is_built_as_it_is(make: Make, precision: str) -> None:
    file = make("lenet", precision).model.path
    size, facts = built(make(str(file), AS_IS))
    assert facts["precision"] == AS_IS
    assert size == built(make("lenet", precision))[0]


def test_tf32_is_another_plan_of_the_same_graph(make: Make) -> None:
    plans = [TensorRTRtxEngine.prebuild(make("lenet", name))[0] for name in ("fp32", "tf32")]
    contents = [(make("lenet").cache_dir / plan).read_bytes() for plan in plans]
    assert contents[0] != contents[1]


@pytest.mark.parametrize("target", [name for name in targets.choices() if name != "7.5"])
def test_the_builder_knows_every_target(make: Make, target: str) -> None:
    assert built(make("lenet", "int8", target=target))[1]["target"] == target


def test_the_targets_are_those_of_the_library() -> None:
    known = library.load(library.RTX).ComputeCapability.__members__
    named = {f"SM{major}{minor}" for major, minor in targets.SERVED}
    assert named == known.keys() - {"NONE", "CURRENT"}


def test_turing_takes_no_matrix_products_in_fp32(make: Make) -> None:
    built(make("lenet", "fp16", target="7.5"))
    with pytest.raises(Unsupported, match=r"no kernel for a node.*Turing.*FP32 GEMM"):
        built(make("lenet", "fp32", target="7.5"))


def test_the_parser_names_the_node_that_it_does_not_take(make: Make, tmp_path: Path) -> None:
    node = helper.make_node("Warp", ["x"], ["y"], name="warp_7", domain="of.nobody")
    inputs, outputs = [("x", TensorProto.FLOAT, ["N", 4])], [("y", TensorProto.FLOAT, ["N", 4])]
    load = make("lenet")
    path = tmp_path / "odd.onnx"
    onnx.save(graph_of([node], inputs, outputs), path)
    odd = replace(load, model=replace(load.model, path=path, sha256="1" * 64))
    with pytest.raises(Unsupported, match=r"parser refuses the model at node 'warp_7'"):
        TensorRTRtxEngine.prebuild(odd)


def test_a_gpu_is_asked_for_nothing(make: Make, gpu: FakeGpu, trt: Any) -> None:
    gpu.devices = 0
    built(make("lenet", batch_size=2))
    assert gpu.calls == []

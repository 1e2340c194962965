"""How close do the reduced precisions of the zoo come to fp32?

    python benchmarks/fidelity.py [--networks alexnet,googlenet,...] [--items 8]

Each network runs in int8 on both CPU engines, in the dialect that raybench gives them on this CPU; the
s8s8 graph, which is TensorRT's, is judged by ONNX Runtime's CPU; fp16 and int8_fp16 (s8s8) by rounding every
half tensor, since no CPU computes in half. One network at a time, in a process of its own. Prints a table of dB
(signal to quantisation noise) and, last, one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from _table import markdown

from raybench.engines import registry
from raybench.engines.base import Load
from raybench.errors import RaybenchError
from raybench.experiment import ModelSettings
from raybench.machine import devices
from raybench.models.cache import cache_dir
from raybench.models.comparison import compare
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

NETWORKS = ("alexnet", "googlenet", "resnet50", "bert_base", "vit_b16")
S8S8 = "s8s8"
HEADS = (
    *("network", "fp16, rounded", "int8, OpenVINO", "int8, ONNX Runtime", "s8s8, ONNX Runtime"),
    "int8_fp16, rounded",
)


def main() -> int:
    """Print the table of the networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--network", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.network:
        print(json.dumps(_measured(options.network, options.items)))
        return 0
    rows = {}
    for network in options.networks.split(","):
        command = [sys.executable, __file__, "--network", network, "--items", str(options.items)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows[network] = json.loads(done.stdout.splitlines()[-1])
        print(network, rows[network], file=sys.stderr, flush=True)
    cells = [[name, *(_text(cell) for cell in row.values())] for name, row in rows.items()]
    print("\n".join(markdown(HEADS, cells, ", ".join(HEADS[1:]))))
    print(json.dumps({"benchmark": "fidelity", "db": rows}))
    return 0


def _measured(network: str, items: int) -> dict[str, Any]:
    """Return the fidelity of a network by column, or the sentence why there is none."""
    columns = {
        "fp16": lambda: _rounded(network, "fp16", None),
        "openvino": lambda: _on_cpu(network, "openvino", None, items),
        "onnxruntime": lambda: _on_cpu(network, "onnxruntime", None, items),
        "s8s8": lambda: _on_cpu(network, "onnxruntime", S8S8, items),
        "int8_fp16": lambda: _rounded(network, "int8_fp16", S8S8),
    }
    return {name: _found(measure) for name, measure in columns.items()}


def _found(measure: Callable[[], Any]) -> Any:
    try:
        return measure()
    except RaybenchError as error:
        return str(error)


def _rounded(network: str, precision: str, dialect: str | None) -> float | None:
    model = prepare(network, ModelSettings(), precision, dialect, cache_dir())
    return model.conversion.rounded_sqnr_db


def _on_cpu(network: str, name: str, dialect: str | None, items: int) -> list[Any]:
    """Return dB and dialect of the int8 graph on one core; by default in the engine's dialect."""
    engine_class = registry.get(name)
    traits = engine_class.traits
    dialect = dialect or traits.int8_dialect
    folder = cache_dir()
    model = prepare(network, ModelSettings(), "int8", dialect, folder, traits.rewrites_lrn)
    batches = BatchPool(model.inputs, items, 0, model.ranges, min_bytes=1)
    core = devices.core(sorted(os.sched_getaffinity(0))[0])
    settings = traits.settings()
    engine = engine_class.load(Load(model, batches, core, 1, True, settings, None, folder))
    engine.submit(0)
    engine.collect(0)
    near = compare(engine.outputs(), model, batches, folder).fidelity
    engine.close()
    return [None if near is None else near.sqnr_db, model.dialect]


def _text(cell: Any) -> str:
    """Return a cell: dB with the dialect, a sentence, or a dash for what was not computed."""
    if isinstance(cell, list):
        return f"{_text(cell[0])} ({cell[1]})"
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else f"{cell:.1f}"


if __name__ == "__main__":
    sys.exit(main())

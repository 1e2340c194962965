"""Where the names that users, files and caches rely on are defined today.

`test_stability.py` compares what these functions return with literals. They return plain data, so
that a module or class can be moved or renamed by changing this file alone; the literals stay.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import typing
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq

import raybench
from raybench import errors, experiment
from raybench.analysis.batch import batch
from raybench.analysis.compare import compare
from raybench.analysis.devices import generation
from raybench.analysis.efficiency import efficiency
from raybench.analysis.precision import precision
from raybench.analysis.scaling import scaling
from raybench.analysis.study2017.figures import paper
from raybench.cli import compare as compare_verb
from raybench.cli import main, run
from raybench.cluster import actor, file_transfer, metrics, nodes
from raybench.cluster import session as sessions
from raybench.cluster.node_facts import NodeFacts
from raybench.config import files, settings
from raybench.config.compose import read
from raybench.engines import plugins, registry
from raybench.engines.base import Load
from raybench.engines.tensorrt import builder
from raybench.engines.tensorrt.engine import TensorRTSettings, build_plan
from raybench.execute import lead, rows
from raybench.execute.discovery import DiscoveredCluster
from raybench.execute.run import final_rows, manifest
from raybench.execute.runner import LOST, ExperimentRunner
from raybench.execute.stop_request import StopRequest
from raybench.machine import devices as machine_devices
from raybench.machine import environment
from raybench.machine.devices import Device
from raybench.measure import flags as flagging
from raybench.models import cache, prepare, reference, source, zoo
from raybench.models.model import Model, TensorSpec
from raybench.planning.plan import PlannedTrial, make_plan, still_final
from raybench.report.terminal.comparison import FORMATS
from raybench.results import schema
from raybench.results.load import compact, load
from raybench.results.store import STATES, Store

# --- points ---------------------------------------------------------------------------------------


def _request(words, devices, engines):
    """The request of these words on these devices, with these engines installed."""
    return read(list(words)).resolve(
        devices, lambda engine, kind: None if engine in engines else f"{engine} is not installed"
    )


def _points(words, devices, engines):
    return _plan(_request(words, devices, engines)).points


def _label(point):
    size = "max" if point.largest else point.batch_size
    return (
        f"{point.model} {point.precision} batch {size} x{point.workers} {point.engine} on "
        f"{point.wants}, {point.inflight} in flight, transfers {'on' if point.transfers else 'off'}"
    )


GAINED = {"experiment=precision": ("fp16", "int8_fp16")}
"""Precisions that an experiment compares since; the points that it had keep their ids and order."""


def point_ids(words, devices, engines):
    """Id of every point, by a description of it, in the order of the file; without those added since."""
    gained = GAINED.get(words[0], ()) if words else ()
    points = _points(words, devices, engines)
    return {_label(point): point.id for point in points if point.precision not in gained}


def series_ids(words, devices, engines):
    """Id of the series of every point, by a description of the point."""
    return {_label(point): point.series for point in _points(words, devices, engines)}


def hashed_bytes(words, devices, engines):
    """What is hashed into the id of the first point."""
    point = _points(words, devices, engines)[0]
    hashed = []
    plain = hashlib.sha256

    def record(data):
        hashed.append(data)
        return plain(data)

    with patch("hashlib.sha256", record):
        dataclasses.replace(point).id  # noqa: B018 - a copy whose id is not computed yet
    return hashed[-1].decode()


def _plan(request):
    return make_plan(request.experiment, request.devices, request.cluster.isolation, "")


def first_row(words, devices, engines):
    """Columns of the first point that are known before anything runs, without those added since."""
    request = _request(words, devices, engines)
    point = _plan(request).points[0]
    row = rows.identity_columns(request.experiment, PlannedTrial(point, 0, 0), "e" * 20)
    newer = {"inputs", "load", "arrivals", "instances", "power_limit_w", "build", "first_build_id"}
    newer |= {"prompt", "context", "new_tokens", "pipeline", "cores"}
    return {name: value for name, value in row.items() if name not in newer}


def model_identity(name, **settings):
    return source.identity(name, experiment.ModelSettings(**settings))


def zoo_models():
    return zoo.names()


def hashed_fields():
    """Names and order of the fields that point ids are made of."""
    point = _points(["experiment=smoke", "engine=simulated"], {"gpu": 1, "cpu": 1}, ())[0]
    facts = point.described()
    return {
        "Point": list(facts),
        "MeasureSettings": list(facts["measure"]),
        "ModelSettings": list(facts["model_settings"]),
    }


# --- environment ----------------------------------------------------------------------------------


def environment_id(*nodes):
    return environment.environment_id(*nodes)


def machine_kind(facts):
    """Text that is equal for machines which can use the same built engine."""
    return environment.kind(facts)


def gpu_without_driver(accelerator):
    """Product name of a GPU that the cluster declares and no driver confirms."""
    return machine_devices.declared_gpu(accelerator)


# --- caches ---------------------------------------------------------------------------------------


def tensorrt_cache(folder, batch_size, precision, memory_limit_bytes=None, **settings):
    """Files and headers in a node's cache after a plan was built on a GPU with fixed facts."""
    spec = TensorSpec("data", "float32", ("N", 3, 224, 224))
    path = Path("model.onnx")
    model = Model(
        "alexnet", precision, None, path, "5" * 64, (spec,), (), 4, 4, path, "5" * 64, frozenset()
    )
    pool_of_batches = SimpleNamespace(batch_size=batch_size, specs=(spec,), count=1)
    device = Device("gpu", "NVIDIA H200", 0, "GPU-of-no-machine", "0")
    options = TensorRTSettings(**settings)
    load = Load(model, pool_of_batches, device, 2, True, options, memory_limit_bytes, folder)
    gpu = {
        "uuid": device.uuid,
        "name": device.name,
        "multiprocessors": 132,
        "memory_bytes": 150_000_000_000,
    }
    context = SimpleNamespace(
        cuda=SimpleNamespace(
            identity=lambda index: gpu,
            capability=lambda index: (9, 0),
            versions=lambda: ("12.8", ""),
        ),
        trt=SimpleNamespace(__name__="tensorrt", __version__="10.9.0.34"),
        runtime=SimpleNamespace(deserialize_cuda_engine=lambda plan: plan),
    )
    built = builder.Built(b"plan", 1.5, b"timings")
    with patch.object(builder, "build", lambda *_: built):
        build_plan(context, load)
    return files_below(folder), [json.loads(path.read_text()) for path in folder.rglob("*.json")]


class _Asked(Exception):
    """The cache was asked for an entry that is not built here."""


def model_cache_keys():
    """Path of each kind of entry in a node's cache, without building any."""
    asked = []
    facts = {
        "inputs": [["ids", "int64", ["N", 128]]],
        "limits": {"ids": 100},
        "outputs": [],
        "parameters": 0,
        "macs_per_item": 0,
        "softmax_outputs": [],
        "has_lrn": True,
    }

    def entry(self, key, build, revision=""):
        asked.append(f"{self._root.name}/{key}")
        if self._root.name != "models":
            raise _Asked
        return cache.CacheEntry(self._root / key, {}, facts)

    found = {}
    folder = Path("cache")
    settings = experiment.ModelSettings()
    with (
        patch.object(cache.Cache, "entry", entry),
        patch("importlib.metadata.version", lambda name: "1.22.0"),
    ):
        for precision, dialect, rewrite_lrn in (
            ("fp32", None, False), ("tf32", None, False), ("fp32", None, True),
            ("fp16", None, False), ("bf16", None, False), ("bf16", "native", False),
            ("int8", "s8s8", False), ("int8", "u8s8", False), ("int8", "u8s8", True),
            ("fp8", None, False),
        ):  # fmt: skip
            with contextlib.suppress(errors.PointError):
                prepare.prepare("alexnet", settings, precision, dialect, folder, rewrite_lrn)
                name = " ".join([precision, dialect or "-", "lrn" if rewrite_lrn else "-"])
                found[name] = asked[-1]
        model = SimpleNamespace(fp32_sha256="5" * 64, fp32_path=Path("model.onnx"), state_inputs=())
        batches = SimpleNamespace(
            first=lambda items: {}, specs=(TensorSpec("x", "float32", ("N", 4)),), key="k"
        )
        with contextlib.suppress(_Asked):
            reference.reference_outputs(model, batches, 8, folder)
        found["reference"] = asked[-1]
        with contextlib.suppress(_Asked):
            file_transfer.local_model_path(
                "missing.onnx", settings, "sha256:" + "5" * 64, lambda: None
            )
        found["received"] = asked[-1]
    return found


def prepared_model(name, folder, **settings):
    """Files in a node's cache after a model was prepared in fp32, and the header of its entry."""
    prepare.prepare(name, experiment.ModelSettings(**settings), "fp32", None, folder)
    (header,) = folder.rglob("entry.json")
    stored = json.loads(header.read_text())
    for name in NEWER_FACTS:
        del stored["facts"][name]
    return files_below(folder), stored


NEWER_FACTS = ("table_parameters", "activations", "weight_bytes")
"""Facts of a model that came after its header was frozen."""


def cache_folder():
    return cache.cache_dir()


def files_below(folder):
    """Every file below a folder but locks, which come and go."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.endswith(".lock"))


# --- results --------------------------------------------------------------------------------------


def schema_columns():
    """(table, column, Arrow type, unit) of every column that is stored, in their order."""
    return [
        [table, field.name, str(field.type), field.metadata[b"unit"].decode()]
        for table, columns in schema.SCHEMAS.items()
        for field in columns
    ]


def versions():
    return {"schema": schema.SCHEMA_VERSION, "method": experiment.METHOD_VERSION}


def statuses():
    """Every status in its order, by what it says of the question."""
    return {"outcomes": list(schema.OUTCOMES), "failures": list(schema.FAILURES)}


def final_statuses():
    return list(schema.FINAL)


def verdicts():
    return list(schema.VERDICTS)


def run_states():
    return list(STATES)


def flags():
    """(name, group) of every flag, gravest first."""
    return [[name, flag.group] for name, flag in flagging.FLAGS.items()]


def verdict(flags, best):
    return flagging.verdict(flags, best)


def write_results(folder, words, devices, engines):
    """Write one trial with rows in every table; returns its point id and environment id."""
    request = _request(words, devices, engines)
    plan = _plan(request)
    point = plan.points[0]
    now = datetime(2026, 11, 1, 8, 0, tzinfo=timezone.utc)
    columns = {
        **rows.identity_columns(request.experiment, plan.trials[0], "e" * 20),
        "started_at": now,
    }
    columns |= {"status": "ok", "verdict": "stable", "items_per_s": 1234.5}
    started = Store(folder).start_run(manifest(request, plan, []))
    started.write_environment([{"environment_id": "e" * 20, "hostname": "node-a"}])
    started.write_point(
        point.id,
        0,
        trials=columns,
        workers=[{"worker": 0}],
        blocks=[{"worker": 0, "block": 0}],
        samples=[{"worker": 0, "seq": 0}],
        layers=[{"layer": 0, "name": "conv"}],
    )
    started.finish("finished")
    compact(folder)
    return point.id, "e" * 20


def write_trials(folder, rates):
    """Write a trial of one point for each rate."""
    started = Store(folder).start_run({})
    for trial, rate in enumerate(rates):
        columns = {
            "environment_id": "e" * 20,
            "status": "ok",
            "verdict": "stable",
            "started_at": datetime(2026, 11, 1, 8, trial, tzinfo=timezone.utc),
            "model": "alexnet",
            "precision": "fp32",
            "batch_size": 8,
            "workers": 1,
            "engine": "openvino",
            "device": "Example CPU",
            "device_kind": "cpu",
            "items_per_s": rate,
            "items_per_s_lo": rate * 0.999,
            "items_per_s_hi": rate * 1.001,
            "method_version": 1,
        }
        started.write_point("p" * 20, trial, trials=columns, workers=[{"worker": 0}])
    started.finish("finished")


def file_metadata(path):
    """Keys in the footer of a Parquet file, and in the metadata of its first field."""
    found = pq.read_schema(path)
    return (
        sorted(key.decode() for key in found.metadata),
        sorted(key.decode() for key in found.field(0).metadata),
    )


def left_to_measure(words, devices, folder, environment_id):
    """(point id, trial) of what a run with these words would still measure into a folder."""
    request = _request([*words, f"results.dir={folder}"], devices, ())
    plan = _plan(request)
    finals = still_final(plan, final_rows(Store(folder), request.rerun, environment_id))
    keys = [(step.point.id, step.trial) for step in plan.trials]
    return [key for key in keys if key not in finals]


def resume(words, devices, folder, facts, ended_as=None):
    """Exit code of a run into a folder that holds all its rows, on a machine with these facts.

    Args:
        ended_as: a status that a trial of the run is said to have ended with.
    """
    columns = {name: value for name, value in facts.items() if name != "devices"}
    machine = NodeFacts(columns, facts["devices"], devices, gpus=[], missing={}, system_issues=[])
    tally = patch.object(ExperimentRunner, "execute", lambda self: {ended_as: 1})
    with (
        patch.object(nodes, "local_facts", lambda device_counts: machine),
        patch.object(sessions, "connect", side_effect=AssertionError("Ray was started")),
        tally if ended_as else contextlib.nullcontext(),
    ):
        words = [*words, f"results.dir={folder}"]
        request = _request(words, devices, ())
        cluster, display = DiscoveredCluster(None, devices), run.TerminalDisplay()
        return run.show_results(lead.measure(request, cluster, words, display, StopRequest()))


def device_lost_status():
    """How a run counts a point whose devices went away, which leaves no failed row."""
    return LOST


# --- errors and exit codes ------------------------------------------------------------------------


def _kinds(kind):
    return [kind, *(found for below in kind.__subclasses__() for found in _kinds(below))]


def _without_arguments(kind):
    error = kind.__new__(kind)
    error.args = ("text",)
    return error


def exit_codes():
    """Exit code of a command that ends with an error, by the error's name."""
    raised = [_without_arguments(k) for k in _kinds(errors.RaybenchError) if _public(k)]
    return {type(error).__name__: _exit_code(error) for error in (*raised, KeyboardInterrupt())}


def _public(kind):
    return kind.__module__ == errors.__name__


def _exit_code(error):
    def fail(words):
        raise error

    with patch.dict(main.VERBS, {"list": fail}):
        return main.main(["list"])


def point_errors():
    """(status of the row, whether it is tried again) of each way in which a point can fail."""
    kinds = [kind for kind in _kinds(errors.PointError) if _public(kind)]
    return {kind.__name__: [kind.status, kind.retried] for kind in kinds}


def command(*words):
    """Exit code of a command line."""
    return main.main([str(word) for word in words])


# --- names ----------------------------------------------------------------------------------------


def verbs():
    return list(main.VERBS)


def compare_words():
    return {"options": list(compare_verb.OPTIONS), "formats": list(FORMATS)}


def _type_name(kind):
    if dataclasses.is_dataclass(kind):
        return "mapping"
    inner = [each for each in typing.get_args(kind) if dataclasses.is_dataclass(each)]
    name = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
    for each in inner:
        name = name.replace(f"{each.__module__}.{each.__qualname__}", "mapping")
    return name.replace("typing.", "")


def _settings(kind, prefix=""):
    """(key, type, default) of every field of a dataclass, at any depth."""
    hints = typing.get_type_hints(kind)
    usual = kind()
    found = []
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            found += _settings(hints[field.name], f"{prefix}{field.name}.")
        else:
            default = getattr(usual, field.name)
            found.append([f"{prefix}{field.name}", _type_name(hints[field.name]), default])
    return found


def config_keys():
    """(key, type, default) of everything that can be set, but for the options of engines.

    A key may take more words than it did, which are left out here.
    """
    newer_words = {"scaling.baseline": ", 'pairs'"}
    return [
        [key, kind.replace(newer_words.get(key, "-"), ""), default]
        for key, kind, default in _settings(settings.Settings)
    ]


def engine_options():
    """(key, type, default) of the options of each engine that raybench has had from the start."""
    newer = {"tensorrt_rtx", "torch"}
    # at their defaults in no id
    newer_options = {
        "service", "slow_device", "slow_host", "device_spread", "flip_bit_s", "idle_w", "knee_w", "power_exponent",
        "lowest_w", "highest_w", "build_spread",
    }  # fmt: skip
    return {
        name: [
            option
            for option in _settings(registry.get(name).traits.settings)
            if option[0] not in newer_options
        ]
        for name in sorted(registry.BUILT_IN.keys() - newer)
    }


def presets():
    return sorted(files.presets())


NEWER = {
    "applications",
    "decoder",
    "accept",
    "slo",
    "latency",
    "packing",
    "pairs",
    "power",
    "soak",
    "cold_start",
    "feeding",
}
"""Experiments that came after the points were frozen."""


def experiments():
    """Experiments that name their models; the one that is given a model has no points by itself."""
    return sorted(files.experiment_files().keys() - {files.OF_ONE_MODEL} - NEWER)


def groups():
    """Files of each group of settings, by the key that names one."""
    return {name: sorted(files.group_files(name)) for name in ("cluster", "device", "preset")}


def axes():
    return list(experiment.AXES)


def precisions():
    return list(experiment.PRECISIONS)


def entry_point_group():
    return plugins.GROUP


def actor_name():
    """Name of the class that Ray shows for a worker's process."""
    with patch("ray.remote", lambda **options: lambda kind: kind):
        kind = actor.actor_class.__wrapped__()
    return [kind.__name__, kind.__qualname__]


def metric_names():
    """(name, labels) of every metric, without the prefix that Ray puts before it."""
    made = []

    class Metric:
        def __init__(self, name, description="", tag_keys=()):
            made.append([name, list(tag_keys)])

        def set_default_tags(self, tags):
            pass

    with patch("ray.util.metrics.Gauge", Metric), patch("ray.util.metrics.Counter", Metric):
        metrics.RunMetrics("scaling", 1)
    return made


def phases():
    """Phases of a point; the place in the list is the value of its metric."""
    return list(metrics.PHASES)


def public_names():
    return list(raybench.__all__)


def _answers():
    kinds = (scaling, precision, batch, generation, efficiency, compare, paper)
    return {function.__name__: function for function in kinds}


def parameters():
    """Names of the parameters of `raybench.load` and of each analysis, by its name."""
    functions: dict[str, Any] = {"load": load, **_answers()}
    return {name: list(inspect.signature(each).parameters) for name, each in functions.items()}


def answer_columns(folder):
    """Columns of each analysis of a results folder as a table."""
    trials = raybench.load(folder)
    made = {
        name: function(trials, trials) if name == "compare" else function(trials)
        for name, function in _answers().items()
    }
    return {name: answer.as_table().schema.names for name, answer in made.items()}

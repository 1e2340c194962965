"""What users, stored rows and caches rely on, as literals. A change here breaks somebody's folder.

Neither this file nor `data/stability/` changes when modules are moved or renamed: then
`helpers/frozen_interfaces.py` follows. Where more may be added (columns, flags, keys, names), a
test asks only that nothing has gone, changed or been reordered; what is hashed or closed must be
equal. `data/stability/results_24c3f0f.tar.gz` was written by the code of that commit, with the
facts about its machine replaced by made-up ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tarfile
from pathlib import Path

import pytest
from helpers import frozen_interfaces as today

import raybench

DATA = Path(__file__).parent / "data" / "stability"
DEPLOY = Path(__file__).parents[1] / "deploy"
DECLARED = "\x74old"
"""First word of the stored name of a GPU that the cluster declares and no driver confirms."""

ON_GPUS = (
    ["experiment=smoke"],
    {"gpu": 4, "cpu": 8},
    ["tensorrt", "openvino", "onnxruntime"],
)
"""Words, devices and installed engines of a point that the tests below look into."""


def frozen(name):
    return json.loads((DATA / f"{name}.json").read_text())


def gone(old, new):
    """Old entries that are missing from the new ones; if none is, those in another order."""
    missing = [entry for entry in old if entry not in new]
    rest = iter(new)
    return missing or [entry for entry in old if all(entry != other for other in rest)]


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def tiny_model(tmp_path, monkeypatch):
    """A model file whose bytes do not depend on the installed ONNX, in the working directory."""
    monkeypatch.chdir(tmp_path)
    encoded = (DATA / "tiny_model.txt").read_text()
    Path("tiny.onnx").write_bytes(base64.b64decode(encoded))
    return "tiny.onnx"


# --- points ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", frozen("points"), ids=lambda case: " ".join(case["words"]))
def test_the_points_of_an_experiment_keep_their_ids_and_their_order(case, tiny_model):
    ids = today.point_ids(case["words"], case["devices"], case["engines"])
    assert list(ids.items()) == list(case["ids"].items())


def test_the_frozen_points_cover_every_shipped_experiment():
    cases = frozen("points")
    named = {word for case in cases for word in case["words"] if word.startswith("experiment=")}
    assert named >= {f"experiment={name}" for name in today.experiments()}
    assert len({id for case in cases for id in case["ids"].values()}) == 117


HASHED = (
    '{"batch_size":1,"device":"gpu","engine":"tensorrt","engine_options":{"best_batch":null,'
    '"copies_in_graph":true,"cuda_graphs":true,"int8_rest":"graph","jit_convolutions":true,'
    '"largest_batch":null,"optimization_level":3,"spin":true,"streams":1,"timing_cache":true,'
    '"timing_rounds":8,"version_compatible":false,"workspace_mib":null},"inflight":2,"measure":'
    '{"block_min_batches":4,"block_s":1.0,"look_s":0.5,"looks_in_a_row":2,"max_s":2.5,"min_s":2.0,'
    '"n_eff_min":10.0,"target":0.005,"verdict_best":"stable","warmup_advance_blocks":5,'
    '"warmup_agree":0.005,"warmup_max_s":60.0,"warmup_min_batches":20,"warmup_min_s":5.0,'
    '"warmup_window_blocks":10},"memory_limit_bytes":null,"method_version":1,"model_identity":'
    '"zoo:alexnet@1/seed=0","model_settings":{"ranges":{},"seed":0,"shapes":{}},"precision":"fp32",'
    '"transfers":true,"workers":1}'
)


def test_a_point_id_is_the_hash_of_the_same_bytes():
    assert today.hashed_bytes(*ON_GPUS) == HASHED
    (point_id,) = today.point_ids(*ON_GPUS).values()
    assert point_id == hashlib.sha256(HASHED.encode()).hexdigest()[:20] == "0b490178ec24516fe5f6"


def test_a_series_id_is_the_hash_of_the_point_without_its_batch():
    (series_id,) = today.series_ids(*ON_GPUS).values()
    assert series_id == "b9e0d33dd67de28ea1c6"


def test_the_hashed_fields_keep_their_names_and_order():
    assert today.hashed_fields() == {
        "Point": [
            "model", "model_identity", "model_settings", "precision", "batch_size", "workers",
            "engine", "engine_options", "inflight", "transfers", "device", "memory_limit_bytes",
            "measure", "preset", "largest", "accelerator",
        ],
        "MeasureSettings": [
            "block_s", "block_min_batches", "warmup_min_s", "warmup_min_batches", "warmup_max_s",
            "warmup_window_blocks", "warmup_advance_blocks", "warmup_agree", "min_s", "max_s",
            "look_s", "looks_in_a_row", "target", "n_eff_min", "verdict_best",
        ],
        "ModelSettings": ["shapes", "ranges", "seed"],
    }  # fmt: skip


def test_a_row_describes_its_point_in_the_same_words():
    row = today.first_row(*ON_GPUS)
    assert row.pop("config_json") == (
        '{"accelerator": "any", "batch_size": 1, "device": "gpu", "engine": "tensorrt", '
        '"engine_options": [["best_batch", null], ["copies_in_graph", true], '
        '["cuda_graphs", true], ["int8_rest", "graph"], ["jit_convolutions", true], '
        '["largest_batch", null], ["optimization_level", 3], ["spin", true], ["streams", 1], '
        '["timing_cache", true], ["timing_rounds", 8], ["version_compatible", false], '
        '["workspace_mib", null]], "inflight": 2, "largest": false, "measure": '
        '{"block_min_batches": 4, "block_s": 1.0, "look_s": 0.5, "looks_in_a_row": 2, '
        '"max_s": 2.5, "min_s": 2.0, "n_eff_min": 10.0, "target": 0.005, '
        '"verdict_best": "stable", "warmup_advance_blocks": 5, "warmup_agree": 0.005, '
        '"warmup_max_s": 60.0, "warmup_min_batches": 20, "warmup_min_s": 5.0, '
        '"warmup_window_blocks": 10}, "memory_limit_bytes": null, "model": "alexnet", '
        '"model_identity": "zoo:alexnet@1/seed=0", "model_settings": {"ranges": {}, "seed": 0, '
        '"shapes": {}}, "precision": "fp32", "preset": "standard", "transfers": true, '
        '"workers": 1}'
    )
    assert row == {
        "environment_id": "e" * 20,
        "experiment": "smoke",
        "point_index": 0,
        "preset": "standard",
        "seed": 0,
        "model": "alexnet",
        "model_identity": "zoo:alexnet@1/seed=0",
        "precision": "fp32",
        "batch_size": 1,
        "workers": 1,
        "engine": "tensorrt",
        "engine_options": "{}",
        "inflight": 2,
        "transfers": True,
        "load_mode": "stream",
        "scaling_mode": "weak",
        "memory_limit_bytes": None,
        "device_kind": "gpu",
        "simulated": False,
    }


def test_a_model_is_identified_by_its_recipe_or_its_bytes_and_shapes(tiny_model):
    assert today.model_identity("alexnet", seed=3) == "zoo:alexnet@1/seed=3"
    assert today.model_identity(tiny_model, shapes={"sequence": 16}) == (
        "sha256:d762efc5b1f3f9f0842e6c08bbea5257d7c59be25556ae60a8bde4ac1cfbc9e0"
    )


# --- environment ----------------------------------------------------------------------------------

EIGHT_GPUS = {
    "devices": {"NVIDIA H200": 8, "Example CPU": 64},
    "driver_version": "570.1",
    "cuda_driver_version": "12.8",
    "cuda_runtime_version": "12.8",
    "tensorrt_version": "10.9",
    "onnxruntime_version": "1.22.0",
    "openvino_version": "2025.2.0",
    "cpu_model": "Example CPU",
    "container_digest": "sha256:1",
}
FOUR_DECLARED_GPUS = {
    "devices": {"Example CPU": 2, f"{DECLARED} GPU": 4},
    "cpu_model": "Example CPU",
}


@pytest.mark.parametrize(
    ("nodes", "environment_id"),
    [
        ([EIGHT_GPUS], "ef2b41e81cbc63f25fc9"),
        ([FOUR_DECLARED_GPUS], "6d2f2a2cebee5a05809a"),
        ([{"devices": {f"{DECLARED} H100": 4}}], "bd05da112169ee240b07"),
        ([EIGHT_GPUS, {"devices": {f"{DECLARED} GPU": 4}}], "e0b8b9e9fddc4c1f888b"),
        ([{}], "66715567bacb78a52daf"),
    ],
)
def test_an_environment_keeps_its_id(nodes, environment_id):
    assert today.environment_id(*nodes) == environment_id


def test_machines_that_can_share_a_built_engine_are_still_recognised():
    assert today.machine_kind(EIGHT_GPUS) == (
        '{"container_digest": "sha256:1", "cuda_driver_version": "12.8", '
        '"cuda_runtime_version": "12.8", "devices": ["NVIDIA H200"], "driver_version": "570.1", '
        '"onnxruntime_version": "1.22.0", "openvino_version": "2025.2.0", '
        '"tensorrt_version": "10.9"}'
    )


def test_a_gpu_that_no_driver_confirms_keeps_its_name():
    assert today.gpu_without_driver(None) == today.gpu_without_driver("any") == f"{DECLARED} GPU"
    assert today.gpu_without_driver("H100") == f"{DECLARED} H100"


# --- caches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", frozen("plans").values(), ids=frozen("plans"))
def test_a_tensorrt_plan_keeps_its_place_and_its_facts(case, tmp_path):
    files, headers = today.tensorrt_cache(
        tmp_path,
        case["batch_size"],
        case["precision"],
        case["memory_limit_bytes"],
        **case["settings"],
    )
    assert headers == case["headers"]
    assert files == case["files"]


def test_models_and_references_keep_their_places_in_the_cache():
    assert today.model_cache_keys() == {
        "fp32 - -": "models/d08f91f80e4c81505d30a175ec7a87b47958d4a3",
        "tf32 - -": "models/d08f91f80e4c81505d30a175ec7a87b47958d4a3",
        "fp32 - lrn": "models/49c797e97c901c9605b867c7dc03227a15335774",
        "fp16 - -": "models/5a2d9660238557fece01c88f529d245d73ddda7a",
        "bf16 native -": "models/d08f91f80e4c81505d30a175ec7a87b47958d4a3",
        "int8 s8s8 -": "models/53ea73adff40c1a5dc0dcf2c03f2deb885d4c9a0",
        "int8 u8s8 -": "models/15a18fbb93961891b4ec0f3d6795184544811c48",
        "int8 u8s8 lrn": "models/4ca64bd290f3ced8709ae2d586f19053d5d2d747",
        "reference": "references/b47dbbefd3fd84057303f56b2658c6149b4b1d15",
        "received": "received/4f59174cbebc6784e22be60b6a34c4852a3a1726",
    }


def test_a_prepared_model_is_a_folder_with_a_header(tiny_model, tmp_path):
    files, header = today.prepared_model(tiny_model, tmp_path / "cache", shapes={"sequence": 16})
    entry = "models/ee8831d537ab59cf69e50d19a66fa35047184d43"
    assert files == [f"{entry}/entry.json", f"{entry}/model.onnx"]
    assert header["files"]["model.onnx"].keys() == {"size_bytes", "mtime_ns", "sha256"}
    assert header["facts"] == {
        "inputs": [["ids", "int64", ["N", 16]], ["mask", "int64", ["N", 16]]],
        "outputs": [["probabilities", "float32", ["N", 4]]],
        "parameters": 112,
        "macs_per_item": 32,
        "limits": {"ids": 10},
        "softmax_outputs": ["probabilities"],
        "has_lrn": False,
    }


def test_the_cache_lies_where_its_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path))
    assert today.cache_folder() == tmp_path
    monkeypatch.delenv("RAYBENCH_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert today.cache_folder() == tmp_path / ".cache" / "raybench"


# --- what rows hold -------------------------------------------------------------------------------


def test_no_stored_column_is_lost_moved_or_given_another_type_or_unit():
    assert gone(frozen("columns"), today.schema_columns()) == []


def test_the_schema_and_the_method_keep_their_versions():
    assert today.versions() == {"schema": 1, "method": 1}


def test_statuses_are_a_closed_list_of_outcomes_and_failures():
    assert today.statuses() == {
        "outcomes": ["ok", "out_of_memory", "unsupported", "infeasible"],
        "failures": ["timeout", "worker_died", "node_died", "failed", "interrupted"],
    }
    assert today.final_statuses() == [
        "ok", "out_of_memory", "unsupported", "infeasible",
        "timeout", "worker_died", "node_died", "failed",
    ]  # fmt: skip


def test_verdicts_and_states_of_a_run_are_closed_lists():
    assert today.verdicts() == ["stable", "unverified", "unstable"]
    assert today.run_states() == ["running", "finished", "interrupted", "failed"]


FLAGS = {
    "blocking": [
        "warmup_not_converged", "step", "drift", "throttled_thermal", "throttled_hw",
        "foreign_process", "foreign_load", "clock_skew", "wrong_outputs",
    ],
    "target_missed": ["wide_ci", "few_neff"],
    "information": [
        "few_batches", "throttled_power", "clock_low", "clock_varied", "node_load", "steal",
        "uneven", "lowered_priority", "temp_rising", "imbalance", "host_bound", "enqueue_bound",
        "copy_bound", "compute_varied", "ecc_error", "telemetry_gap", "energy_mismatch",
        "harness_cost", "outliers", "precision_only",
    ],
}  # fmt: skip


def test_flags_keep_their_names_groups_and_order():
    named = [[name, group] for group, names in FLAGS.items() for name in names]
    assert gone(named, today.flags()) == []


@pytest.mark.parametrize("group", FLAGS)
def test_flags_that_block_or_miss_the_target_make_a_row_unstable(group):
    for flag in FLAGS[group]:
        expected = "stable" if group == "information" else "unstable"
        assert today.verdict([flag], "stable") == expected
    assert today.verdict([], "unverified") == "unverified"


# --- the results folder ---------------------------------------------------------------------------


def test_a_results_folder_keeps_its_layout(tmp_path):
    point_id, environment_id = today.write_results(tmp_path, *ON_GPUS)
    (manifest,) = tmp_path.glob("runs/*/manifest.json")
    run_id = manifest.parent.name
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", run_id)
    trial = f"{run_id}/{point_id}-t0.parquet"
    assert today.files_below(tmp_path) == [
        f"blocks/{trial}",
        "compact/blocks.parquet",
        "compact/environment.parquet",
        "compact/trials.parquet",
        "compact/workers.parquet",
        f"environment/{run_id}/{environment_id}.parquet",
        f"layers/{trial}",
        "raybench.json",
        f"runs/{run_id}/manifest.json",
        f"samples/{trial}",
        f"trials/{trial}",
        f"workers/{trial}",
    ]
    assert list(json.loads(manifest.read_text())) == [
        "run_id", "state", "started_at", "ended_at", "raybench_version", "method_version",
        "experiment", "question", "command", "preset", "trials", "seed", "points",
    ]  # fmt: skip
    assert json.loads((tmp_path / "raybench.json").read_text()) == {
        "format_version": 1,
        "written_by": raybench.__version__,
    }


def test_a_parquet_file_says_what_wrote_it(tmp_path):
    today.write_results(tmp_path, *ON_GPUS)
    of_file = [
        "raybench.method_version", "raybench.schema_version", "raybench.table", "raybench.version",
    ]  # fmt: skip
    of_field = ["description", "unit"]
    for table in ("trials", "workers", "blocks", "samples", "layers", "environment"):
        (path,) = (tmp_path / table).rglob("*.parquet")
        assert today.file_metadata(path) == (of_file, of_field)
    of_compact = sorted([*of_file, "raybench.newest_ns"])
    assert today.file_metadata(tmp_path / "compact" / "trials.parquet") == (of_compact, of_field)


OLD_WORDS = [
    "experiment=smoke", "engine=simulated", "device=gpu", "cluster.gpus=2", "cluster.cpus=1",
    "cluster.dashboard=false", "preset=quick", "model=alexnet", "batch_size=[1,32768]",
    "workers=2", "measure.min_s=1.4", "measure.max_s=1.6", "measure.look_s=0.2",
    "measure.block_s=0.1", "measure.warmup_max_s=2",
]  # fmt: skip
OLD_DEVICES = {"gpu": 2, "cpu": 1}
OLD_FACTS = {
    "devices": {"Example CPU": 1, f"{DECLARED} GPU": 2},
    "onnxruntime_version": "1.22.0",
    "openvino_version": "2025.2.0",
    "cpu_model": "Example CPU",
}
OLD_ENVIRONMENT = "b337357e66730b9f51b4"


@pytest.fixture
def old_results(tmp_path):
    """A copy of the old folder, as a run may write into it."""
    with tarfile.open(DATA / "results_24c3f0f.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    return (tmp_path / "results_24c3f0f").rename(tmp_path / "results")


def test_an_old_results_folder_loads(old_results):
    trials = raybench.load(old_results)
    columns = ["point_id", "batch_size", "workers", "status", "verdict", "environment_id"]
    assert sorted(tuple(row.values()) for row in trials.select(columns).to_pylist()) == [
        ("52eb69b2f90a81d86a6c", 32768, 2, "out_of_memory", None, OLD_ENVIRONMENT),
        ("a3566445233f957e2bf4", 1, 2, "ok", "unverified", OLD_ENVIRONMENT),
    ]
    assert sum(rate or 0 for rate in trials["items_per_s"].to_pylist()) == 1817.8677225313518
    rows = {name: raybench.load(old_results, name) for name in ("workers", "blocks", "environment")}
    assert {name: table.num_rows for name, table in rows.items()} == {
        "workers": 2,
        "blocks": 40,
        "environment": 1,
    }


def test_the_points_of_an_old_folder_need_not_be_measured_again(old_results):
    (manifest,) = old_results.glob("runs/*/manifest.json")
    assert json.loads(manifest.read_text())["command"] == [*OLD_WORDS, "results.dir=results"]
    assert today.environment_id(OLD_FACTS) == OLD_ENVIRONMENT
    left = today.left_to_measure(OLD_WORDS, OLD_DEVICES, old_results, OLD_ENVIRONMENT)
    assert left == []
    again = [*OLD_WORDS, "rerun=all"]
    left = today.left_to_measure(again, OLD_DEVICES, old_results, OLD_ENVIRONMENT)
    assert left == [("a3566445233f957e2bf4", 0), ("52eb69b2f90a81d86a6c", 0)]


def test_a_run_into_an_old_folder_measures_nothing_and_shows_its_rows(old_results, capsys):
    before = today.files_below(old_results / "trials")
    assert today.resume(OLD_WORDS, OLD_DEVICES, old_results, OLD_FACTS) == 0
    assert today.files_below(old_results / "trials") == before
    assert "1,818" in capsys.readouterr().out


# --- exit codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("ok", 0), ("out_of_memory", 0), ("unsupported", 0), ("infeasible", 0),
        ("timeout", 1), ("worker_died", 1), ("node_died", 1), ("failed", 1), ("interrupted", 1),
        (today.device_lost_status(), 1),
    ],
)  # fmt: skip
def test_a_run_exits_with_1_when_a_trial_failed(status, code, old_results):
    assert today.resume(OLD_WORDS, OLD_DEVICES, old_results, OLD_FACTS, status) == code


def test_each_error_keeps_its_exit_code():
    usage = {
        "UsageError", "ConfigError", "ModelError", "EngineUnavailable", "ClusterError",
        "ResultsError", "ComparisonRefused",
    }  # fmt: skip
    other = {
        "RaybenchError", "PointError", "OutOfMemory", "Unsupported", "Infeasible", "EngineFailure",
        "Refused", "PhaseTimeout", "WorkerDied", "NodeDied", "Interrupted",
    }  # fmt: skip
    expected = dict.fromkeys(usage, 2) | dict.fromkeys(other, 1) | {"KeyboardInterrupt": 130}
    codes = today.exit_codes()
    assert {name: codes.get(name) for name in expected} == expected


def test_each_failure_of_a_point_keeps_its_status_and_whether_it_is_tried_again():
    expected = {
        "PointError": ["failed", True],
        "OutOfMemory": ["out_of_memory", False],
        "Unsupported": ["unsupported", False],
        "Infeasible": ["infeasible", False],
        "EngineFailure": ["failed", True],
        "Refused": ["failed", False],
        "PhaseTimeout": ["timeout", True],
        "WorkerDied": ["worker_died", True],
        "NodeDied": ["node_died", True],
        "Interrupted": ["interrupted", False],
    }
    kinds = today.point_errors()
    assert {name: kinds.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("rates", "words", "code"),
    [
        ([100.0, 100.1, 99.9], [], 0),
        ([200.0, 200.1, 199.9], [], 0),
        ([50.0, 50.1, 49.9], [], 1),
        ([100.0], [], 0),
        ([100.0], ["strict=true"], 3),
    ],
    ids=["same", "improved", "regressed", "undecided", "undecided and strict"],
)
def test_compare_exits_with_1_for_a_regression_and_3_for_no_decision(rates, words, code, tmp_path):
    today.write_trials(tmp_path / "before", [100.0, 100.1, 99.9])
    today.write_trials(tmp_path / "after", rates)
    assert today.command("compare", tmp_path / "before", tmp_path / "after", *words) == code


# --- names ----------------------------------------------------------------------------------------


def test_the_command_line_keeps_its_verbs_and_the_words_of_compare():
    verbs = ["run", "plan", "list", "doctor", "show", "compare", "report"]
    assert set(verbs) <= set(today.verbs())
    words = today.compare_words()
    assert {"by", "metric", "threshold", "format", "strict", "results.dir"} <= set(words["options"])
    assert {"table", "markdown", "json", "csv", "junit"} <= set(words["formats"])


def test_every_key_that_can_be_set_keeps_its_type_and_default():
    assert gone(sorted(frozen("settings")["settings"]), sorted(today.config_keys())) == []


def test_the_options_of_each_engine_are_equal_because_all_of_them_are_hashed():
    assert today.engine_options() == frozen("settings")["engines"]


def test_experiments_presets_and_other_groups_keep_their_names():
    shipped = {"batch_size", "generations", "paper", "precision", "scaling", "smoke"}
    assert shipped <= set(today.experiments())
    assert today.presets() == ["publish", "quick", "standard"]
    assert today.groups() == {
        "cluster": ["attach", "local"],
        "device": ["cpu", "gpu"],
        "preset": ["publish", "quick", "standard"],
    }


def test_axes_precisions_and_zoo_models_keep_their_names():
    axes = [
        "model", "precision", "batch_size", "workers", "engine", "inflight", "transfers",
        "accelerator",
    ]  # fmt: skip
    assert gone(axes, today.axes()) == []
    assert gone(["fp32", "tf32", "fp16", "bf16", "int8", "fp8"], today.precisions()) == []
    assert {"alexnet", "googlenet", "resnet50", "bert_base", "vit_b16"} <= set(today.zoo_models())


def test_engines_of_other_packages_are_found_under_the_same_entry_points():
    assert today.entry_point_group() == "raybench.engines"


def test_ray_shows_workers_under_the_same_name():
    assert today.actor_name() == ["BenchWorker", "BenchWorker"]


METRICS = [
    ["raybench_items_per_s", ["experiment", "host", "device"]],
    ["raybench_latency_ms", ["experiment", "host", "device"]],
    ["raybench_power_w", ["experiment", "host", "device"]],
    ["raybench_temp_c", ["experiment", "host", "device"]],
    ["raybench_point_items_per_s", ["experiment", "point"]],
    ["raybench_point_half_width", ["experiment", "point"]],
    ["raybench_phase", ["experiment", "point"]],
    ["raybench_trials_planned", ["experiment"]],
    ["raybench_trials", ["experiment", "status"]],
]


def test_metrics_keep_their_names_and_labels():
    assert gone(sorted(METRICS), sorted(today.metric_names())) == []
    assert today.phases()[:6] == ["", "start", "prepare", "warm-up", "measure", "layers"]


def test_the_dashboard_asks_for_all_of_these_metrics():
    asked = set(re.findall(r"ray_(raybench_\w+)", (DEPLOY / "grafana.json").read_text()))
    counters = {"raybench_trials": "raybench_trials_total"}  # as Prometheus names a counter
    assert {counters.get(name, name) for name, labels in METRICS} <= asked


def test_the_package_keeps_its_public_names():
    assert {"Experiment", "Point", "__version__", "load"} <= set(today.public_names())


def test_load_and_the_analyses_keep_their_names_and_parameters():
    expected = {
        "load": ["root", "table", "runs"],
        "scaling": ["trials", "workers", "mode"],
        "precision": ["trials"],
        "batch": ["trials"],
        "generation": ["trials", "by", "base"],
        "efficiency": ["trials", "usd_per_device_hour", "accelerators"],
        "compare": ["a", "b", "by", "metric", "threshold", "names", "environments"],
        "paper": ["trials"],
    }
    parameters = today.parameters()
    assert {name: parameters[name][: len(expected[name])] for name in expected} == expected


@pytest.mark.parametrize("name", frozen("answers"))
def test_an_analysis_as_a_table_keeps_its_columns(name, old_results):
    assert set(frozen("answers")[name]) <= set(today.answer_columns(old_results)[name])

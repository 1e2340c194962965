import pytest

from raybench.config.compose import parse_bytes, read
from raybench.config.files import experiment_files
from raybench.errors import ConfigError

CPU = {"gpu": 0, "cpu": 2}
GPU = {"gpu": 4, "cpu": 8}


def resolved(*words, devices=CPU):
    return read(words).resolve(devices)


@pytest.mark.parametrize(
    "name", ["smoke", "precision", "scaling", "generations", "batch_size", "paper"]
)
@pytest.mark.parametrize("devices", [CPU, GPU])
def test_every_shipped_experiment_loads_on_both_kinds_of_device(name, devices):
    request = resolved(f"experiment={name}", "engine=simulated", devices=devices)
    assert request.experiment.question.endswith(("?", ")"))


def test_a_model_without_an_experiment_is_one_point_of_it_on_the_best_engine():
    request = read(["model=mine.onnx", "batch_size=3"]).resolve(CPU, lambda engine, kind: None)
    experiment = request.experiment
    assert experiment.question == "How fast does this model run here?"
    assert experiment.engines["auto"].name == "openvino"
    assert experiment.grids == (
        {
            "model": ("mine.onnx",), "precision": ("fp32",), "batch_size": (3,), "workers": (1,),
            "engine": ("auto",), "inflight": (1,), "transfers": (True,), "accelerator": ("any",), "load": ("closed",), "instances": (1,),
                "power_limit_w": (None,), "prompt": ("auto",), "context": ("auto",), "new_tokens": ("auto",),
                "pipeline": ("none",), "cores": (None,),
        },
    )  # fmt: skip
    usual = resolved("grid={model: mine.onnx}", "engine=simulated", devices=GPU).experiment
    assert (usual.grids[0]["batch_size"], usual.preset) == ((128,), "standard")


def test_a_named_experiment_comes_before_the_model():
    assert resolved("model=mine.onnx", "experiment=scaling").experiment.name == "scaling"


def test_sizes_follow_the_kind_of_device():
    assert resolved("experiment=scaling").experiment.grids[0]["batch_size"] == (8,)
    gpu = resolved("experiment=batch_size", "engine=simulated", devices=GPU).experiment
    assert gpu.grids[0]["batch_size"][-1] == 4096
    assert (resolved("experiment=scaling").experiment.preset, gpu.preset) == ("quick", "standard")


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset():
    measure = resolved("experiment=smoke", "measure.max_s=9").experiment.measure
    assert (measure.max_s, measure.min_s, measure.block_s) == (9.0, 2.0, 0.2)
    assert resolved("experiment=smoke", "preset=publish").experiment.trials == 5
    assert resolved("experiment=smoke", "preset=standard").cluster.processes == "fresh"
    assert resolved("experiment=smoke").cluster.processes == "kept"
    assert resolved("experiment=smoke", "cluster.processes=fresh").cluster.processes == "fresh"


@pytest.mark.parametrize(("written", "value"), [("max", ("max",)), ("8", (8,)), ("[4,8]", (4, 8))])
def test_an_override_replaces_the_list_of_the_file(written, value):
    experiment = resolved("experiment=batch_size", f"batch_size={written}").experiment
    assert experiment.grids[0]["batch_size"] == value


def test_axes_may_be_given_as_one_mapping():
    grid = resolved("experiment=scaling", "grid={batch_size: 4}").experiment.grids[0]
    assert grid["batch_size"] == (4,)


def test_an_axis_word_sets_every_grid_of_a_union():
    grids = resolved("experiment=paper", "engine=onnxruntime", "precision=fp32").experiment.grids
    assert all(
        grid["engine"] == ("onnxruntime",) and grid["precision"] == ("fp32",) for grid in grids
    )


def test_engine_options_are_typed_and_kept_with_the_engine():
    request = resolved("experiment=scaling", "engine=simulated", "engine.profile=p40")
    choice = request.experiment.engines["simulated"]
    assert dict(choice.options)["profile"] == "p40"


def test_an_experiments_folder_in_the_working_directory_comes_first(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "scaling.yaml").write_text("# Mine?\nmodel: resnet50\n")
    monkeypatch.chdir(tmp_path)
    assert resolved("experiment=scaling").experiment.grids[0]["model"] == ("resnet50",)
    assert "paper" in experiment_files()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["experiment=scalling"], "Unknown experiment 'scalling'. Did you mean 'scaling'"),
        (["experiment=mine.onnx"], "To measure a model, write model=mine.onnx"),
        (
            ["experiment=scaling", "measure.min_sec=3"],
            "Unknown key 'measure.min_sec'.*'measure.min_s'",
        ),
        (["experiment=scaling", "modle=alexnet"], "Unknown key 'modle'.*'model'"),
        (["experiment=scaling", "engine=openvno"], "Unknown engine 'openvno'.*'openvino'"),
        (["experiment=scaling", "engine.thread=2"], "Unknown key 'engine.thread'.*'threads'"),
        (["experiment=scaling", "engine.threads=two"], "engine.threads.*'two'"),
        (["experiment=scaling", "precision=int9"], "Unknown precision 'int9'.*'int8'"),
        (["experiment=scaling", "preset=quik"], "Unknown preset 'quik'.*'quick'"),
        (["experiment=scaling", "batch_size=eight"], "batch_size takes whole numbers.*'eight'"),
        (
            ["experiment=scaling", "batch_size=0"],
            "batch_size takes whole numbers from 1 to 2147483647 or max, not 0",
        ),
        (["experiment=scaling", "batch_size=[]"], "batch_size is empty"),
        (["experiment=scaling", "transfers=maybe"], "transfers takes on or off, not 'maybe'"),
        (["experiment=scaling", "batch_size=999999999999"], "batch_size takes .* not 999999999999"),
        (["experiment=scaling", "inflight=40000"], "inflight takes whole numbers from 1 to 32767"),
        (
            ["experiment=scaling", "trials=99999999999"],
            "trials takes a whole number from 1 to 32767",
        ),
        (["experiment=scaling", "seed=-1"], "seed takes a whole number from 0"),
        (["experiment=scaling", "trials=0"], "trials takes a whole number from 1"),
        (["experiment=scaling", "measure.max_s=1"], "max_s=1.0 is below measure.min_s=5.0"),
        (["experiment=scaling", "measure.min_s=abc"], "measure.min_s.*abc"),
        (["experiment=scaling", "order=random"], "order.*random"),
        (["experiment=scaling", "device=tpu"], "tpu"),
        (["experiment=scaling", "device=gpu", "engine=openvino"], "does not run on device=gpu"),
        (["experiment=scaling", "device.memory_limit=lots"], "takes a size such as 24GiB"),
        (["experiment=scaling", "batch_size="], "batch_size is empty"),
        (["experiment=scaling", "model="], "model is empty"),
        (["experiment=scaling", "batch_size.x=3"], "Unknown key 'batch_size.x'.*'batch_size'"),
        (["experiment=scaling", "grid.batch_size.x=3"], "Unknown key 'grid.batch_size.x'"),
        (["experiment=scaling", "batchsize=3"], "Unknown key 'batchsize'.*mean 'batch_size'"),
        (["experiment=scaling", "batch_siez=3"], "Unknown key 'batch_siez'.*mean 'batch_size'"),
        (
            ["experiment=scaling", "grid=alexnet"],
            "^grid in .* takes keys such as grid.model, not 'alexnet'",
        ),
        (["experiment=scaling", "measure=3"], "^measure in .* takes keys such as measure.block_s"),
        (["experiment=scaling", "measure="], "^measure in .* takes keys"),
        (["experiment=scaling", "grids=3"], "^grids in .* takes a list of grids, not '3'"),
        (["experiment=scaling", "exclude={model: alexnet}"], "^exclude in .* takes a list"),
        (["experiment=scaling", "exclude=[{batchsize: 8}]"], "mean 'batch_size'.*accelerator"),
        (["experiment=scaling", "rerun=yes"], "rerun.*'yes'"),
        (["experiment=scaling", "measure.block_s=nan"], "measure.block_s must be a finite number"),
        (["experiment=scaling", "cluster.cpus=-3"], "cluster.cpus takes a whole number from 1"),
        (["experiment=scaling", "cluster.cpus=0"], "cluster.cpus takes a whole number from 1"),
        (["experiment=scaling", "cluster.gpus=-1"], "cluster.gpus takes a whole number from 0"),
        (["experiment=scaling", "cluster.retries=-1"], "cluster.retries takes a whole number"),
        (["experiment=scaling", "cluster.stall_timeout_s=nan"], "stall_timeout_s must be above 0"),
        (["experiment=scaling", "nonsense"], "'nonsense' is not key=value"),
        (["trials=3"], "No experiment was named. Add experiment=NAME, or model=FILE.onnx"),
        (["model.seed=3"], "No experiment was named"),
        (["model="], "model is empty"),
        (["experiment=model"], "The grid has no model. Add model=..."),
        (["run.onnx", "batch_size=3"], "'run.onnx' is not key=value. Write model=run.onnx"),
        (["experiment=missing/file.yaml"], "does not exist"),
    ],
)
def test_bad_words_are_refused_in_one_sentence_that_says_what_to_do(words, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        resolved(*words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "- 1\n- 2\n",
        "# Q?\nmodel: alexnet\ngrd: {}\n",
        "# Q?\ngrid: alexnet\n",
        "# Q?\ngrid: [1]\n",
        "# Q?\nmodel: alexnet\ndevice: 3\n",
    ],
)
def test_broken_experiment_files_are_refused_by_name(tmp_path, text):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        resolved(f"experiment={file}")


def test_a_file_without_a_model_is_asked_for_one(tmp_path):
    file = tmp_path / "empty.yaml"
    file.write_text("# Nothing?\n")
    with pytest.raises(ConfigError, match="has no model"):
        resolved(f"experiment={file}")


@pytest.mark.parametrize(
    ("text", "size"), [("24GiB", 24 * 2**30), ("1.5g", 1_500_000_000), (4096, 4096), (None, None)]
)
def test_sizes_are_read_with_their_units(text, size):
    assert parse_bytes("key", text) == size


def test_a_file_that_asks_for_code_to_run_is_refused_and_runs_none(tmp_path):
    mark = tmp_path / "ran"
    file = tmp_path / "evil.yaml"
    file.write_text(f"# Evil?\ngrid:\n  model: !!python/object/apply:os.system ['touch {mark}']\n")
    with pytest.raises(ConfigError, match="not readable YAML"):
        resolved(f"experiment={file}")
    words = f"!!python/object/apply:os.system ['touch {mark}']"
    assert resolved(f"model={words}").experiment.grids[0]["model"] == (words,)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["a.b", "x:0", "a/b.c[0]", "h // 2", "n", "past keys.0.key", "yes"]
)
def test_a_name_of_the_graph_is_one_key_whatever_it_holds(name):
    words = [f"model.shapes.{name}=3", f"model.ranges.{name}=[0, 4]", f"model.values.{name}=[1, 2]"]
    model = resolved("experiment=smoke", *words).experiment.model
    assert (model.shapes, model.ranges) == ({name: 3}, {name: [0, 4]})
    assert model.values == {name: [1, 2]}


def test_names_of_the_graph_add_up():
    words = ["model.shapes.a.b=3", "model.shapes={x: [N, 4]}", "model.shapes.y=[2, N]"]
    model = resolved("experiment=smoke", *words, "model.seed=4").experiment.model
    assert model.shapes == {"a.b": 3, "x": ["N", 4], "y": [2, "N"]}
    assert model.seed == 4


def test_a_word_that_the_shell_has_split_is_explained():
    with pytest.raises(ConfigError, match="Put the whole word in quotes"):
        read(["experiment=smoke", "model.shapes.x=[N,", "3]"])


@pytest.mark.parametrize(
    ("word", "stored"),
    [
        ("tags.rack=007", {"rack": "007"}),
        ("tags={rack: b7, who: me}", {"rack": "b7", "who": "me"}),
        ("tags={rack: {n01: b7, n02: b8}}", {"rack.n01": "b7", "rack.n02": "b8"}),
        ("tags.rack.n01=b7", {"rack.n01": "b7"}),
    ],
)
def test_tags_are_stored_as_they_were_written(word, stored):
    experiment = resolved("experiment=smoke", "engine=simulated", word).experiment
    assert experiment.tags == stored


@pytest.mark.parametrize("word", ["tags=b7", "tags.rack=", f"tags.rack={'x' * 300}"])
def test_a_tag_that_no_row_can_hold_is_refused(word):
    with pytest.raises(ConfigError, match="tags"):
        resolved("experiment=smoke", "engine=simulated", word)

"""Words are taken as written: text reaches its key unchanged, all else is read by the key's type."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import raybench
from raybench.config.compose import read
from raybench.config.layers import merge_options
from raybench.config.words import InlineText, split, structure
from raybench.errors import ConfigError

CPU = {"gpu": 0, "cpu": 2}
TEXTS = [
    "out #2", "#", "a: b", "1_000", "007", "0x1F", "1e3", "yes", "no", "on", "off", "null", "~", "true",
    "2026-11-28", "12:30:45", "/data/out #2", "a,b", "{a}", "[old]", "[a]/[b]", "'x'", '"x"', " x ",
    "${trials}", "$HOME", "\\${a}", "a=b", "==", "-x", "--", "&a", "*a", "!!int 3", "%a", "@b", "`c`",
    "测试", "اختبار", "🚀", "e\u0301", "नमस्ते", ".inf", "?", "|", ">", "- a", "...", "---", "\\", "a\\n",
]  # fmt: skip


def resolved(*words, devices=CPU):
    return read(words).resolve(devices)


@pytest.mark.parametrize("text", TEXTS)
def test_text_on_the_command_line_reaches_its_key_as_written(text):
    request = resolved(
        "experiment=smoke", f"results.dir={text}", f"model.inputs={text}", f"cluster.select.k={text}",
        "model=a b #1.onnx",
    )  # fmt: skip
    assert request.results.dir == text
    assert request.experiment.model.inputs == text
    assert request.cluster.select == {"k": text}
    assert request.experiment.grids[0]["model"] == ("a b #1.onnx",)


@pytest.mark.parametrize("text", [text for text in TEXTS if text not in ("null", "~")])
def test_an_address_is_taken_as_written(text):
    assert read(["experiment=smoke", f"cluster.address={text}"]).cluster.address == text


@pytest.mark.parametrize("text", TEXTS)
def test_a_model_is_taken_as_written_unless_its_brackets_are_a_list(text):
    model = resolved(f"model={text}", "engine=simulated").experiment.grids[0]["model"]
    assert model == (("old",) if text == "[old]" else (text,))


@pytest.mark.parametrize(
    "text", ["007", "1_000", "yes", "2026-11-28", "1e3", "0x1F", "null", "~", "12:30:45", "测试", "a #b"]
)  # fmt: skip
def test_text_in_a_file_is_what_yaml_reads_without_its_types(tmp_path, text):
    file = tmp_path / "mine.yaml"
    quoted = f'"{text}"' if "#" in text else text
    file.write_text(f"# Q?\nmodel: {quoted}\nresults: {{dir: {quoted}}}\n", encoding="utf-8")
    request = resolved(f"experiment={file}", "engine=simulated")
    assert request.experiment.grids[0]["model"] == (text,)
    assert request.results.dir == text


@pytest.mark.parametrize("text", [*TEXTS, "[1,8]", 'say "yes"'])
def test_text_from_python_is_never_read_as_anything_else(text):
    plan = raybench.plan("smoke", {"results.dir": text, "engine": "simulated", "device": "cpu"})
    assert plan.points
    with pytest.raises(raybench.ConfigError, match=r"takes whole numbers|takes one value"):
        raybench.plan(
            "smoke", {"batch_size": text if text not in ("007", "1_000") else "x", "device": "cpu"}
        )


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ('model=[a b.onnx, "c,d.onnx"]', ("a b.onnx", "c,d.onnx")),
        ("model=[a #1.onnx, 007, yes, b: c]", ("a #1.onnx", "007", "yes", "b: c")),
        ("model=[a[1].onnx,'it''s.onnx',]", ("a[1].onnx", "it's.onnx")),
        (r'model=["a\"b", "\u00e9"]', ('a"b', "é")),
        ('model=["[old]"]', ("[old]",)),
    ],
)
def test_a_list_keeps_its_names_as_they_are(word, values):
    assert resolved(word, "engine=simulated").experiment.grids[0]["model"] == values


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("trials=1_000", lambda r: r.experiment.trials == 1000),
        ("trials=007", lambda r: r.experiment.trials == 7),
        ("measure.max_s=1e3", lambda r: r.experiment.measure.max_s == 1000.0),
        ("cluster.dashboard=off", lambda r: r.cluster.dashboard is False),
        ("cluster.gpus=null", lambda r: r.cluster.gpus is None),
        ("transfers=[on, no]", lambda r: r.experiment.grids[0]["transfers"] == (True, False)),
        ("device.memory_limit=1.5g", lambda r: r.experiment.memory_limit_bytes == 1_500_000_000),
        ("model.values.rate=16_000", lambda r: r.experiment.model.values == {"rate": 16000}),
        ("model.values.x=[1, 2.5, true]", lambda r: r.experiment.model.values["x"] == [1, 2.5, True]),
        ("model.shapes={x: [N, 3], s: 4}", lambda r: r.experiment.model.shapes == {"x": ["N", 3], "s": 4}),
        ("cluster.select={ray.io/pool: 007}", lambda r: r.cluster.select == {"ray.io/pool": "007"}),
        ("cluster={retries: 0, cpus: 1}", lambda r: (r.cluster.retries, r.cluster.cpus) == (0, 1)),
        ("--trials=4", lambda r: r.experiment.trials == 4),
    ],
)  # fmt: skip
def test_numbers_switches_and_mappings_are_read_by_the_type_of_their_key(word, found):
    assert found(resolved("experiment=smoke", word))


def test_dashes_may_stand_before_a_key_and_a_space_for_its_equals_sign():
    request = resolved("--experiment", "smoke", "--trials", "4", "batch_size=2")
    assert (request.experiment.name, request.experiment.trials) == ("smoke", 4)


def test_whole_grids_are_taken_on_the_command_line():
    grid = resolved("grid={model: [alexnet], batch_size: [1,8]}").experiment.grids[0]
    assert (grid["model"], grid["batch_size"]) == (("alexnet",), (1, 8))
    experiment = resolved(
        "grids=[{model: a.onnx, batch_size: [1, 2]}, {model: b.onnx}]",
        "exclude=[{model: a.onnx, batch_size: 2}]", "precision=int8",
    ).experiment  # fmt: skip
    assert [grid["model"] for grid in experiment.grids] == [("a.onnx",), ("b.onnx",)]
    assert experiment.grids[0]["batch_size"] == (1, 2)
    assert experiment.grids[1]["precision"] == ("int8",)
    assert experiment.exclude == ({"model": ("a.onnx",), "batch_size": (2,)},)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["cluster.isolation=yes"], "cluster.isolation in .* takes cluster, node or gpu, not 'yes'"),
        (["cluster.isolation=clutser"], "Did you mean 'cluster'"),
        (["cluster.dashboard=maybe"], "takes true or false, not 'maybe'"),
        (["trials=1e3"], "trials in .* takes a whole number, not '1e3'"),
        (["trials=0x10"], "takes a whole number, not '0x10'"),
        (["trials=" + "9" * 5000], "takes a whole number"),
        (["trials=٣"], "takes a whole number"),
        (["batch_size=1,8"], r'not \'1,8\'. Write "batch_size=\[1,8\]"'),
        (["precision=fp32,int8"], r'Write "precision=\[fp32,int8\]"'),
        (["batch_size=2026-11-28"], "takes whole numbers .* not '2026-11-28'"),
        (["measure.max_s=fast"], "measure.max_s in .* takes a number, not 'fast'"),
        (["measure.max_s=1e999"], "must be a finite number"),
        (["measure.max_s=-3"], "must be from 0"),
        (["measure.target=0"], "measure.target must be above 0"),
        (["measure.verdict_best=fine"], "Unknown measure.verdict_best 'fine'"),
        (["cluster.start_timeout_s=inf"], "must be above 0 and at most"),
        (["device.batch_ladder=8"], "takes a list, not '8'"),
        (["device.batch_ladder=[8, x]"], "takes a whole number, not 'x'"),
        (["model.ranges.ids=5"], "takes a list"),
        (["cluster.select=rack"], "takes names and their values, not 'rack'"),
        (["measure={min_s: 3, min_sec: 4}"], "Unknown key 'measure.min_sec'.*'measure.min_s'"),
        (["results.dir="], "results.dir in .* is empty. Give it a value, or leave it out"),
        (["cluster.address="], "cluster.address in .* is empty"),
        (["preset="], "preset in .* is empty"),
        (["cluster="], "cluster in .* is empty"),
        (["device="], "device.kind in .* is empty"),
        (["precision="], "precision is empty"),
        (["engine.threads="], "engine.threads in .* is empty"),
        (["batch_size=[1,,2]"], "has an empty place"),
        (["=3"], "'=3' is not key=value"),
        (["trials =3"], "Unknown key 'trials '.*mean 'trials'"),
        (["trials=3", "trials=4"], "trials is given twice, as '3' and as '4'. Give it once"),
        (["batch_size=8", "grid.batch_size=4"], "batch_size is given twice"),
        (["batch_size=8", "grid={batch_size: 4}"], "batch_size is given twice"),
        (["device=cpu", "device.kind=gpu"], "device.kind is given twice"),
        (["measure.min_s=1", "measure=2"], "measure is given twice, as several keys and as '2'"),
        (["measure=2", "measure.min_s=1"], "measure.min_s is given twice"),
        (["model.shapes.x=3", "model.shapes={x: 4}"], "model.shapes.x is given twice"),
        (["experiment=scaling"], "experiment is given twice"),
        (["model={seed: 1, seed: 2}"], "names 'seed' twice"),
        (["batch_size=[1,2"], "has a bracket that is not closed"),
        (['model=["a, b]'], "has a quote that is not closed"),
        (["model=[" * 1 + "[" * 40 + "]" * 40 + "]"], "nested too deeply"),
        (["results.dir=a\nb"], "holds a control character"),
        (["results.dir=a\0b"], "holds a control character"),
        (["results.dir=caf\udce9"], "holds bytes that are not UTF-8"),
        (["results.dir=a\u2028b"], "holds an end of a line"),
        (["precison=fp32"], "Unknown key 'precison'.*mean 'precision'"),
        (["worker=2"], "Unknown key 'worker'.*mean 'workers'"),
        (["mesure.max_s=3"], "Unknown key 'mesure.max_s'.*mean 'measure.max_s'"),
        (["max_s=3"], "mean 'measure.max_s'"),
        (["results_dir=x"], "mean 'results.dir'"),
        (["threads=2"], "mean 'engine.threads'"),
        (["Trials=2"], "mean 'trials'"),
        (["batch-size=2"], "mean 'batch_size'"),
        (["model.shape.x=2"], "mean 'model.shapes'"),
        (["experimnt=scaling"], "mean 'experiment'"),
        (["trials.x=3"], "Unknown key 'trials.x'"),
        (["measure.=3"], "Unknown key 'measure.'"),
        ([".=3"], "Unknown key '.'"),
        (["grid.=3"], "Unknown key 'grid.'"),
        (["--trials"], "'--trials' has no value. Write trials=VALUE"),
        (["--trails", "3"], "mean 'trials'"),
        (["scaling"], "is not key=value. Write experiment=scaling"),
        (["alexnet"], "Write model=alexnet"),
        (["quick"], "Write preset=quick"),
        (["openvino"], "Write engine=openvino"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_refused_in_one_sentence(words, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        resolved("experiment=smoke", *words)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_misspelt_key_is_named_before_the_missing_experiment():
    with pytest.raises(ConfigError, match=r"Unknown key 'modle'.*mean 'model'"):
        read(["modle=x.onnx"])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"trials": 2.5}, "takes a whole number, not 2.5"),
        ({"trials": True}, "takes a whole number, not True"),
        ({"trials": None}, "trials in .* is empty"),
        ({"measure": {"max_s": 10**400}}, "takes a number"),
        ({"measure": 3}, "takes keys such as measure.block_s, not 3"),
        ({"results.dir": 7}, "results.dir in .* takes text, not 7"),
        ({"results.dir": ["a"]}, "takes text, not \\['a'\\]"),
        ({"model": [{"a": 1}]}, "takes names"),
        ({"cluster.isolation": True}, "takes cluster, node or gpu, not True"),
        ({"cluster": {"select": {"k": 3}}}, "cluster.select.k in .* takes text, not 3"),
        ({"results.dir": object()}, "is no value of a setting"),
        ({3: 1}, "Unknown key '3'"),
        ({"measure": {3: 1}}, "Unknown key 'measure.3'"),
    ],
)
def test_values_from_python_are_refused_in_the_same_sentences(overrides, sentence):
    with pytest.raises(raybench.ConfigError, match=sentence):
        raybench.plan("smoke", {"device": "cpu", **overrides})


def test_values_from_python_keep_their_types():
    plan = raybench.plan(
        "smoke",
        {
            "trials": np.int32(2), "device": {"kind": "cpu"}, "engine": "simulated",
            "grids": [{"batch_size": (1, 2)}, {"batch_size": np.array([4])}], "exclude": [{"batch_size": 2}],
            "measure": {"max_s": np.float32(3)},
        },
    )  # fmt: skip
    assert [point.batch_size for point in plan.points] == [1, 4]
    assert plan.points[0].measure.max_s == 3.0


def test_a_word_is_split_at_its_first_equals_sign():
    words = list(split(["a=b=c", "--x", "y", "--flag", "--z=", "plain"], switches=["flag"]))
    assert [(word.name, word.value, word.dashed) for word in words] == [
        ("a", "b=c", False), ("x", "y", True), ("flag", None, True), ("z", "", True), ("plain", None, False),
    ]  # fmt: skip


def test_brackets_that_are_part_of_a_name_are_no_list():
    assert structure("[a]/b") == "[a]/b"
    assert structure("{a}") == "{a}"
    assert structure('{"a": [1, {b: c}], d: "e: f"}') == {"a": ["1", {"b": "c"}], "d": "e: f"}


def test_a_grid_that_nobody_could_measure_is_refused_before_it_fills_the_memory():
    sizes = f"batch_size=[{','.join(map(str, range(1, 3001)))}]"
    with pytest.raises(ConfigError, match="has 18,000 combinations in 3 trials, and a run takes"):
        raybench.plan("scaling", [sizes, "inflight=[1,2,3]", "trials=3", "device=cpu", "workers=1"])


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


@dataclass(frozen=True)
class PlugInSettings:
    """Options as somebody else's engine may declare them."""

    name: str
    path: Path = Path("x")
    mode: Mode = Mode.FAST
    level: Literal[1, 2] = 1
    most: float | None = None
    sizes: tuple[int, ...] = (1,)
    names: list[str] = field(default_factory=list)
    table: dict[str, float] = field(default_factory=dict)
    either: int | str = 1
    anything: Any = None


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("path", "/a #b", Path("/a #b")), ("mode", "SLOW", Mode.SLOW), ("level", "2", 2), ("most", "1e3", 1000.0),
        ("most", "null", None), ("sizes", "[1, 2]", (1, 2)), ("names", "[007, yes]", ["007", "yes"]),
        ("table", "{a: 1, b.c: 2.5}", {"a": 1.0, "b.c": 2.5}), ("either", "7", 7), ("either", "x", "x"),
        ("anything", "[1, a]", [1, "a"]), ("name", "[1]", "[1]"),
    ],
)  # fmt: skip
def test_options_of_a_plug_in_are_read_by_their_types(option, text, value):
    typed = merge_options(
        PlugInSettings, {"name": "n", option: InlineText(text)}, "the options of mine"
    )
    assert typed[option] == value
    assert typed.keys() == {entry.name for entry in fields(PlugInSettings)}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "the options of mine need engine.name, which has no default"),
        ({"name": "n", "mode": "fast"}, "engine.mode in .* takes FAST or SLOW, not 'fast'. Did you mean 'FAST'"),
        ({"name": "n", "level": "3"}, "takes 1 or 2, not '3'"),
        ({"name": "n", "sizes": "[1, x]"}, "takes a whole number, not 'x'"),
        ({"name": "n", "most": "x"}, "takes a number, not 'x'"),
    ],
)  # fmt: skip
def test_a_wrong_option_of_a_plug_in_is_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        merge_options(
            PlugInSettings,
            {name: InlineText(text) for name, text in options.items()},
            "the options of mine",
        )


@dataclass(frozen=True)
class UnknownType:
    """Options whose type exists for a type checker alone."""

    kept: Nowhere = None  # noqa: F821


def test_an_option_of_a_type_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match=r"the options of mine cannot hold .*Nowhere"):
        merge_options(UnknownType, {}, "the options of mine")


def test_an_option_of_another_engine_is_said_to_be_one():
    with pytest.raises(ConfigError, match=r"for openvino\. It is an option of simulated"):
        resolved("experiment=smoke", "engine=openvino", "engine.profile=p40")


def test_a_file_without_an_ending_needs_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "007").touch()
    with pytest.raises(raybench.ModelError, match=r"write \./007"):
        raybench.plan(overrides=["model=007", "engine=simulated", "device=cpu"])

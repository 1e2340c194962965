"""Experiment files: read once, by absolute path, never repeated in an error, and never too much."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from raybench.config import layers, yaml_files
from raybench.config.compose import read
from raybench.config.files import experiment_files, question
from raybench.errors import ConfigError

CPU = {"gpu": 0, "cpu": 2}
SECRET = "hunter2"


def resolved(text, folder, *words):
    file = folder / "mine.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read([f"experiment={file}", *words]).resolve(CPU, lambda engine, kind: None)


def test_a_file_is_read_once_and_by_the_path_that_it_had(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    for name in ("mine.yaml", "experiments/named.yaml"):
        (tmp_path / name).write_text("# Mine?\nmodel: alexnet\n")
    reads = []
    whole = layers.read_text
    monkeypatch.setattr(layers, "read_text", lambda path: (reads.append(path), whole(path))[1])
    for name in ("./mine.yaml", "named"):
        monkeypatch.chdir(tmp_path)
        reads.clear()
        draft = read([f"experiment={name}", "engine=simulated"])
        monkeypatch.chdir("/")
        experiment = draft.resolve({"gpu": 1, "cpu": 1}).experiment
        assert experiment.question == "Mine?"
        assert draft.path.is_absolute()
        assert [path for path in reads if tmp_path in path.parents] == [draft.path]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"root:x:0:0:{SECRET}:/root\nbin:x:1:1:bin:/bin\n", "holds text, not keys and values"),
        (f"{SECRET}: 1\n", "Unknown key in .* at line 1, column 1"),
        (f"model: alexnet\nmeasure:\n  {SECRET}: 1\n", "Unknown key in .* at line 3, column 3"),
        (f"model: alexnet\ngrids:\n- {SECRET}: 1\n", "Unknown key in .* at line 3, column 3"),
        (f"a: [{SECRET}", "not readable YAML at line 1, column 12"),
        (f"a: '{SECRET}", "not readable YAML at line 1"),
        (f"a: {{b: {SECRET}: c}}", "not readable YAML at line 1"),
        (f"a: *{SECRET}", "not readable YAML at line 1, column 4: found undefined alias"),
        (f"a: !{SECRET} 1", "tags are not taken"),
        (f"a: !!python/name:{SECRET} 1", "tags are not taken"),
        (f"{SECRET}\n\x00", "line 2 holds a control character"),
        (b"ok: 1\n\xff\xfe" + SECRET.encode(), "is not UTF-8 text at line 2"),
        (f"- {SECRET}\n", "holds a list, not keys and values"),
        (f"--- \na: 1\n--- \n{SECRET}: 2\n", "not readable YAML at line 3"),
        (f"model: alexnet\nmodel: {SECRET}\n", "at line 2, column 1: a key stands there twice"),
        (f"? [{SECRET}]\n: 1\n", "a key is a list or a mapping"),
        (f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n", "YAML|text"),
        ("{" * 5000 + SECRET, "not readable YAML|nested too deeply"),
        ("a: " + "[" * 30 + "]" * 30, "too deep"),
        ("x" * (yaml_files.MOST_BYTES + 1), "larger than 256 KiB"),
        ("a: &a [" + "1," * 20_001 + "]", "over 20000 values"),
    ],
)
def test_what_a_file_holds_is_not_repeated(tmp_path, text, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        resolved(text, tmp_path)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_a_key_that_is_near_a_known_one_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"Unknown key 'grid\.precison' in .*mean 'precision'"):
        resolved("# Q?\nmodel: alexnet\ngrid: {precison: fp32}\n", tmp_path)


def test_a_bomb_of_aliases_is_refused(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(ConfigError, match="over 20000 values"):
        resolved("\n".join(lines), tmp_path)
    with pytest.raises(ConfigError, match="too deep"):
        resolved("a: &a [*a]", tmp_path)


def test_anchors_and_merged_mappings_work(tmp_path):
    text = "# Q?\ngrids:\n- &base {model: alexnet, batch_size: 1}\n- {<<: *base, batch_size: 2}\n"
    grids = resolved(text, tmp_path).experiment.grids
    assert [(grid["model"], grid["batch_size"]) for grid in grids] == [
        (("alexnet",), (1,)), (("alexnet",), (2,)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["folder", "pipe", "device", "socket", "loop", "dangling", "closed"]
)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "x.yaml"
    with socket.socket(socket.AF_UNIX) as opened:
        {
            "folder": path.mkdir,
            "pipe": lambda: os.mkfifo(path),
            "device": lambda: path.symlink_to("/dev/zero"),
            "socket": lambda: opened.bind(str(path)),
            "loop": lambda: path.symlink_to(path),
            "dangling": lambda: path.symlink_to(tmp_path / "gone"),
            "closed": lambda: (path.write_text("a: 1"), path.chmod(0)),
        }[kind]()
        if kind == "closed" and os.access(path, os.R_OK):
            pytest.skip("root reads everything")
        with pytest.raises(ConfigError, match=r"x\.yaml (is|cannot be read)"):
            read([f"experiment={path}"])


def test_a_file_without_a_comment_in_front_asks_no_question(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"model: {SECRET}\n# later\n")
    assert question(file) == ""
    file.write_text("\ufeff# Is it fast?  \nmodel: alexnet\n", encoding="utf-8")
    assert question(file) == "Is it fast?"


def test_sections_whose_keys_are_all_comments_are_empty(tmp_path):
    request = resolved("# Q?\nmodel: alexnet\nmeasure:\n  # min_s: 3\ncluster:\ngrid:\n", tmp_path)
    assert request.experiment.grids[0]["model"] == ("alexnet",)
    with pytest.raises(ConfigError, match=r"results.dir in .*mine.yaml is empty"):
        resolved("# Q?\nmodel: alexnet\nresults:\n  dir:\n", tmp_path)


def test_a_broken_neighbour_does_not_hide_the_other_experiments(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    os.mkfifo(tmp_path / "experiments" / "pipe.yaml")
    monkeypatch.chdir(tmp_path)
    assert {"pipe", "scaling"} <= set(experiment_files())


# ---------------------------------------------------------------- references


def test_references_are_followed_in_files(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYBENCH_ROOM", "cold #1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "007")
    monkeypatch.delenv("TMPDIR", raising=False)
    text = (
        "# Q?\nmodel: alexnet\nseed: ${oc.env:SLURM_ARRAY_TASK_ID}\n"
        "batch_size: [1, '${device.batch_size}']\nengine: {threads: '${trials}'}\n"
        "results: {dir: '${oc.env:TMPDIR,/scratch}/${oc.env:RAYBENCH_ROOM}/${seed}/\\${x}'}\n"
        "measure: {max_s: '${measure.min_s}'}\n"
    )
    request = resolved(text, tmp_path, "trials=2", "measure.min_s=4", "engine=onnxruntime")
    assert request.experiment.seed == 7
    assert request.experiment.grids[0]["batch_size"] == (1, 8)
    assert request.results.dir == "/scratch/cold #1/7/${x}"
    assert request.experiment.measure.max_s == 4.0
    assert dict(request.experiment.engines["onnxruntime"].options)["threads"] == 2


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("${oc.env:AWS_SECRET_ACCESS_KEY}", "reads the variable .AWS_SECRET_ACCESS_KEY..*Export it as RAYBENCH_"),
        ("${oc.env:PATH}", "reads the variable .PATH"),
        ("${oc.env:SLURM_JWT}", "reads the variable .SLURM_JWT"),
        ("${oc.env:RAYBENCH_NOTHING}", "which is not set. Export it"),
        ("${oc.decode:x}", "neither a key nor a variable"),
        ("${oc.create:x}", "neither a key nor a variable"),
        ("${oc.env:${seed}}", "not closed|neither"),
        ("${gone}", "a key that does not exist"),
        ("${measure.gone}", "a key that does not exist"),
        ("${measure}", "refers to a section"),
        ("a ${device.batch_ladder}", "no single value"),
        ("${results.dir}", "in a circle"),
        ("${open", "not closed"),
        ("${}", "neither a key nor a variable"),
        ("${trials.x}", "does not exist"),
    ],
)  # fmt: skip
def test_a_reference_that_leads_nowhere_is_refused(tmp_path, monkeypatch, value, sentence):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("SLURM_JWT", SECRET)
    with pytest.raises(ConfigError, match=sentence) as caught:
        resolved(f"# Q?\nmodel: alexnet\nresults: {{dir: '{value}'}}\n", tmp_path)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_reference_to_a_value_of_another_type_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"trials in .* takes a whole number, not 'results'"):
        resolved("# Q?\nmodel: alexnet\ntrials: ${results.dir}\n", tmp_path)
    with pytest.raises(ConfigError, match="Unknown preset"):
        resolved("# Q?\nmodel: alexnet\npreset: ${results.dir}\n", tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("engine: {threads: {x: '${oc.env:AWS_SECRET_ACCESS_KEY}'}}", "reads the variable .AWS_SECRET"),
        ("engine: {threads: {x: ['${oc.decode:3}']}}", "neither a key nor a variable"),
        ("model.values.x: {y: '${oc.env:AWS_SECRET_ACCESS_KEY}'}", "reads the variable .AWS_SECRET"),
        ("batch_size: [1, '${oc.env:AWS_SECRET_ACCESS_KEY}']", "reads the variable .AWS_SECRET"),
        ("results.dir: '${oc.env:RAYBENCH_BELL}'", "reads a variable: RAYBENCH_BELL=.* control character"),
        ("engine.x: {a: '${engine}'}", "in a circle"),
        ("results.dir: 'a${model.inputs}'\nmodel.inputs: '${results.dir}b'", "in a circle"),
        (
            "engine:\n  a0: [x]\n" + "".join(
                f"  a{n}: ['${{engine.a{n - 1}}}', '${{engine.a{n - 1}}}']\n" for n in range(1, 60)
            ),
            "no single value",
        ),
        (
            "engine:\n  a0: xy\n" + "".join(
                f"  a{n}: '${{engine.a{n - 1}}}${{engine.a{n - 1}}}'\n" for n in range(1, 60)
            ),
            "over 4096 characters",
        ),
        (
            "engine:\n" + "".join(f"  a{n}: '${{engine.a{n + 1}}}'\n" for n in range(3000)) + "  a3000: 1",
            "chain of references that is too long",
        ),
    ],
)  # fmt: skip
def test_references_reach_no_other_variable_and_grow_no_value_without_end(
    tmp_path, monkeypatch, text, sentence
):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("RAYBENCH_BELL", "a\ab")
    with pytest.raises(ConfigError, match=sentence) as caught:
        resolved(f"# Q?\nmodel: alexnet\n{text}\n", tmp_path)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_file_reads_is_no_reference_itself_and_defaults_may_hold_any_sign(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("RAYBENCH_ROOM", "${oc.env:HOME}")
    monkeypatch.setenv("RAYBENCH_SIZE", "128")
    text = (
        "# Q?\nmodel: alexnet\nresults.dir: ${oc.env:RAYBENCH_ROOM}\n"
        "model.inputs: '${oc.env:RAYBENCH_NONE,a #b~é,\"q\"}'\n"
        "model.shapes: {s: '${oc.env:RAYBENCH_SIZE}'}\n"
    )
    request = resolved(text, tmp_path)
    assert request.results.dir == "${oc.env:HOME}"
    assert request.experiment.model.inputs == 'a #b~é,"q"'
    assert request.experiment.model.shapes == {"s": 128}


def test_other_users_of_omegaconf_keep_their_resolvers(tmp_path, monkeypatch):
    monkeypatch.setenv("ANOTHER", "x")
    resolved("# Q?\nmodel: alexnet\nseed: ${oc.env:RAYBENCH_NONE,3}\n", tmp_path)
    assert OmegaConf.create({"a": "${oc.env:ANOTHER}"}).a == "x"


def test_a_path_may_lie_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Path(tmp_path, "mine.yaml").write_text("# Q?\nmodel: alexnet\n")
    assert read(["experiment=~/mine.yaml"]).path == tmp_path / "mine.yaml"


def test_dotted_keys_stand_for_nested_ones(tmp_path):
    text = "# Q?\ngrid: {model: alexnet}\nmeasure.max_s: 6\ngrid.batch_size: 3\nmodel.shapes.a.b: 2\nmodel: {values.x: 1}\n"
    experiment = resolved(text, tmp_path).experiment
    assert experiment.measure.max_s == 6.0
    assert experiment.grids[0]["batch_size"] == (3,)
    assert experiment.model.shapes == {"a.b": 2}
    with pytest.raises(ConfigError, match=r"measure.max_s is given twice"):
        resolved(f"{text}measure: {{max_s: 7}}\n", tmp_path)

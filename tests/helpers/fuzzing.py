"""Command lines and YAML files drawn at random, and what every one of them must do.

A command ends with exit code 0, 1, 2 or 3 within its time, never with a traceback, and says in one
line what is wrong.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass

import numpy as np
import onnx
from helpers.results_folders import folder as results_folder
from helpers.tiny_graphs import tiny_bert, tiny_conv
from hypothesis import strategies as st

from raybench.cli.main import VERBS, main
from raybench.cluster import session as sessions
from raybench.config.places import _every_key, top_level
from raybench.errors import ClusterError, PointError
from raybench.execute import lead
from raybench.experiment import AXES

CODES = (0, 1, 2, 3)
LIMIT_S = 60.0

KEYS = [*AXES, *_every_key(), *(f"grid.{axis}" for axis in AXES), "model.shapes.sequence",
        "model.values.x", "model.ranges.ids", "cluster.select.rack", "experiment"]  # fmt: skip
"""Every key, and some below the mappings of names."""

GOOD = {
    "experiment": ["smoke", "scaling", "precision", "paper", "batch_size", "mine.yaml", "./sub dir/a #1.yaml"],
    "model": ["alexnet", "googlenet", "tiny.onnx", "two.onnx", "[alexnet, tiny.onnx]", "./sub dir/b #1.onnx"],
    "precision": ["fp32", "int8", "[fp32,int8]", "fp16", "bf16", "as_is"],
    "batch_size": ["1", "8", "[1,8]", "max", "1_0"],
    "workers": ["1", "2", "auto", "all", "[1,2]", "64"],
    "engine": ["auto", "simulated", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "[simulated, onnxruntime]"],
    "inflight": ["1", "2"],
    "transfers": ["on", "off", "[on,off]"],
    "accelerator": ["any", "auto", "H100"],
    "load": ["closed", "poisson(100)", "0.5", "[closed, constant(2e3)]"],
    "trials": ["1", "3"],
    "seed": ["0", "7"],
    "order": ["grid", "interleaved"],
    "rerun": ["none", "failed", "all"],
    "preset": ["quick", "standard", "publish"],
    "device": ["cpu", "gpu", "auto"],
    "device.memory_limit": ["24GiB", "100", "1.5g", "null"],
    "device.batch_ladder": ["[1,2]", "[4]"],
    "results.dir": ["rows", "new", "tiny.onnx", "other", "sub dir"],
    "model.inputs": ["items.npz", "items", "tiny.onnx"],
    "model.shapes.sequence": ["16", "0"],
    "model.values.x": ["1", "[1,2]", "true", "0.5"],
    "model.ranges.ids": ["[0,9]", "[5,1]"],
    "cluster.gpus": ["4", "0"],
    "cluster.cpus": ["1", "2", "99"],
    "cluster.address": ["local", "127.0.0.1:1", "nowhere:6379"],
    "engine.threads": ["1", "2"],
    "engine.profile": ["p40", "custom"],
    "measure.max_s": ["3", "1e3"],
    "grids": ["[{model: alexnet}]", "[{batch_size: [1,2]}, {precision: int8}]"],
    "exclude": ["[{precision: int8}]", "[{model: alexnet, batch_size: [1,8]}]"],
    "grid": ["{model: alexnet}", "{model: [alexnet], batch_size: [1,8]}"],
}  # fmt: skip
"""Values that a key may have."""

WRONG = [
    "", " ", "yes", "no", "on", "null", "~", "true", "-1", "0", "0.5", "1e999", "-inf", "nan", "1e3", "0x10",
    "007", "1_000", "9" * 30, "9" * 400, "1" + "0" * 5000, "2147483648", "32768", "2026-11-28", "a: b", "a #b",
    "[", "]", "{", "[]", "{}", "[[1]]", "[1,,2]", "[{a: 1}]", "{a: {b: 1}}", "[" * 200, "[" * 50 + "]" * 50,
    "'", '"', '["a', "${trials}", "${oc.env:HOME}", "\\${x}", "!!python/name:os.system", "*a", "&a", "%", "`",
    "/", ".", "..", "~/x", "/dev/zero", "/etc/passwd", "../../../etc/passwd", "/proc/self/mem", "pipe",
    "a" * 300, "a" * 5000, f"./{'a' * 300}", f"{'a' * 300}.onnx", f"/{'b/' * 3000}x", "s3://bucket/x", "ray://x:1", "http://[::1", "测试", "اختبار", "🚀", "e\u0301", "\u202e",
    "\x1b[31mred", "a\nb", "a\tb", "a\x00b", "caf\udce9", "\u2028", "\ufeff", "x\x7fy", "scaling", "alexnet",
]  # fmt: skip
"""Values that hardly any key takes."""

SIDES = ["rows", "a" * 300, f"./{'a' * 300}", "rows:precision=fp32", "rows:precision=int8", "nowhere", "tiny.onnx", "sub dir", ".", "",
         "rows:", "rows:nothing=1", ":", "=", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "s3:x", "items.npz", "rows:a"]  # fmt: skip
OPTIONS = [
    "by",
    "metric",
    "threshold",
    "format",
    "strict",
    "results.dir",
    "out",
    "title",
    "cluster.address",
    "x",
]
SECTIONS = ["experiments", "models", "engines", "presets", "engine", "x"]


@st.composite
def typos(draw, names):
    """A name with one letter dropped, doubled, swapped or replaced."""
    name = draw(st.sampled_from(names))
    place = draw(st.integers(0, max(0, len(name) - 1)))
    letter = draw(st.sampled_from("abcxyz_.-=[ #0é"))
    return draw(
        st.sampled_from(
            [
                name[:place] + name[place + 1 :], name[:place] + letter + name[place:],
                name[:place] + letter + name[place + 1 :], name.upper(), name.replace("_", "-"),
                name.replace("_", ""), name + letter, f"grid.{name}", name.rpartition(".")[2],
            ]
        )
    )  # fmt: skip


ANY_TEXT = st.text(max_size=20)
PRINTABLE = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=20)
NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.integers(0, 70000).map(str),
    st.just("1e3"),
    st.lists(st.integers(-2, 9).map(str), max_size=3).map(lambda items: f"[{','.join(items)}]"),
)
VALUES = st.one_of(st.sampled_from(WRONG), ANY_TEXT, PRINTABLE, NUMBERS)


@st.composite
def good_words(draw):
    """A key with a value that it may have."""
    key = draw(st.sampled_from(sorted(GOOD)))
    return f"{key}={draw(st.sampled_from(GOOD[key]))}"


@st.composite
def wrong_words(draw):
    """A word with something wrong: value, key, form or all of it."""
    kind = draw(st.sampled_from(["value"] * 5 + ["key", "key", "form", "text"]))
    if kind == "value":
        return f"{draw(st.sampled_from(KEYS))}={draw(VALUES)}"
    if kind == "key":
        key = draw(st.one_of(typos(KEYS), typos([*VERBS, *top_level()]), ANY_TEXT, PRINTABLE))
        return f"{key}={draw(st.one_of(VALUES, st.sampled_from(['1', 'alexnet'])))}"
    if kind == "form":
        word = draw(good_words())
        key, _, value = word.partition("=")
        forms = [f"--{word}", f"{key} ={value}", f"{key}= {value}", f"={value}", f"{key}=", key, f"--{key}",
                 f"-{key}", f"{key}=={value}", f"{key}.x={value}", f"{key}.={value}", value]  # fmt: skip
        return draw(st.sampled_from(forms))
    return draw(st.one_of(ANY_TEXT, PRINTABLE, st.sampled_from(WRONG)))


def _first(line):
    return line.partition(":")[0].partition(".")[0]


def _key(word):
    return word.partition("=")[0]


@st.composite
def command_lines(draw):
    """The words of a command, most of them right."""
    verb = draw(
        st.sampled_from(
            ["plan"] * 6
            + ["run"] * 3
            + ["compare", "accept", "baseline", "show", "list", "doctor", "report", "clean", "typo"]
        )
    )
    if verb in ("plan", "run"):
        start = draw(
            st.sampled_from(
                [
                    ["experiment=smoke"],
                    ["model=tiny.onnx"],
                    ["experiment=mine.yaml"],
                    ["experiment=paper"],
                    [],
                ]
            )
        )
        words = [*start, *draw(st.lists(good_words(), max_size=3))]
        words = list({_key(word): word for word in reversed(words)}.values())  # the first of a key
        wrong = draw(st.sampled_from([0, 1, 1, 1, 2]))
        words += draw(st.lists(wrong_words(), min_size=wrong, max_size=wrong))
        return (
            [verb, *draw(st.permutations(words))]
            if verb == "plan" or draw(st.booleans())
            else words
        )
    if verb == "list":
        return [
            verb,
            *draw(st.lists(st.one_of(st.sampled_from(SECTIONS), wrong_words()), max_size=3)),
        ]
    if verb == "doctor":
        return [verb, *draw(st.lists(wrong_words(), min_size=0, max_size=2))]
    if verb == "clean":  # without the words that remove: what it finds belongs to the machine
        removing = {"remove", "yes"}
        words = st.sampled_from(
            ["cache=all", "cache=old", "cache=", "format=json", "format=x", *SIDES]
        )
        drawn = draw(st.lists(st.one_of(words, wrong_words()), max_size=3))
        return [
            verb,
            *(word for word in drawn if not removing & set(_key(word).strip("-").split())),
        ]
    if verb == "typo":
        return [
            draw(st.one_of(typos([*VERBS]), ANY_TEXT, PRINTABLE)),
            *draw(st.lists(wrong_words(), max_size=2)),
        ]
    option = st.builds(
        "{}{}={}".format, st.sampled_from(["", "--"]), st.sampled_from(OPTIONS), VALUES
    )
    spaced = st.sampled_from(
        ["--format", "--by", "json", "md", "--strict", "precision", "format=csv", "by=precision"]
    )
    sides = (
        st.sampled_from(["nowhere", "tiny.onnx", "", "/"])
        if verb in ("report", "accept", "baseline")
        else st.sampled_from(SIDES)
    )
    words = draw(st.lists(sides, max_size=3)) + draw(
        st.lists(st.one_of(option, spaced, wrong_words()), max_size=2)
    )
    return [verb, *words]


# ---------------------------------------------------------------- YAML files


SCALARS = st.one_of(
    VALUES.filter(lambda text: "\n" not in text),
    st.sampled_from(["alexnet", "1", "[1, 8]", "fp32", "'a #b'", "${trials}", "${device.batch_ladder}",
                     "${oc.env:HOME}", "${oc.env:PATH}", "${a.b}", "${", "&a x", "*a", "!!int 3", "<<"]),
)  # fmt: skip


@st.composite
def yaml_files(draw):
    """The bytes of an experiment's file: valid, nearly valid, broken or none at all."""
    kind = draw(st.sampled_from(["keys"] * 4 + ["good"] * 4 + ["text", "bytes", "cut"]))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    if kind == "text":
        return draw(st.text(max_size=200)).encode("utf-8", "surrogatepass")
    lines = draw(
        st.lists(_good_line() if kind == "good" else _yaml_line(), max_size=4, unique_by=_first)
    )
    text = "# Does it hold?\n" + "\n".join(lines) + "\n"
    if draw(st.booleans()):
        text += "model: alexnet\n"
    data = text.encode("utf-8", "surrogatepass")
    return data[: draw(st.integers(0, len(data)))] if kind == "cut" else data


@st.composite
def _good_line(draw):
    key = draw(st.sampled_from(sorted(GOOD.keys() - {"experiment"})))
    return f"{key}: {draw(st.sampled_from(GOOD[key]))}"


@st.composite
def _yaml_line(draw):
    key = draw(st.one_of(st.sampled_from(KEYS), st.sampled_from(sorted(GOOD)), typos(KEYS)))
    value = draw(st.sampled_from(GOOD.get(key, ["1"])) | st.sampled_from(["1", "[1, 8]"]) | SCALARS)
    if draw(st.booleans()) and not value.startswith(("[", "{")):
        value = json.dumps(value)
    section, dot, name = key.partition(".")
    form = draw(st.sampled_from(["nested", "inline", "dotted", "block", "list"]))
    if not dot or form == "dotted":
        return f"{key}: {value}"
    if form == "inline":
        return f"{section}: {{{name}: {value}}}"
    if form == "list":
        return f"{section}:\n- {name}: {value}\n- {value}"
    if form == "block":
        return f"{section}:\n  {name}: |\n    {value}\n   {value}"
    return f"{section}:\n  {name}: {value}"


# ---------------------------------------------------------------- judging


class OutOfTime(BaseException):
    """The command did not end in time."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; None after an exception.
        wrong: what it did that no command may do; empty for a good end.
        seconds: the time it took.
        said: what it wrote to its error output.
    """

    code: int | None
    wrong: str
    seconds: float
    said: str


def prepare_folder(root):
    """Fill a folder with what the command lines name: models, inputs, rows, files and traps."""
    (root / "sub dir").mkdir()
    for path in (root / "tiny.onnx", root / "sub dir" / "b #1.onnx"):
        onnx.save(tiny_conv(), path)
    onnx.save(tiny_bert(), root / "two.onnx")
    np.savez(root / "items.npz", x=np.zeros((3, 3, 8, 8), np.float32))
    for path in (root / "mine.yaml", root / "sub dir" / "a #1.yaml"):
        path.write_text("# Mine?\ngrid: {model: alexnet, batch_size: [1, 2]}\n", encoding="utf-8")
    os.mkfifo(root / "pipe")
    rows = [
        {"precision": name, "point_id": name, "items_per_s": rate}
        for name, rate in (("fp32", 900.0), ("int8", 1800.0))
    ]
    results_folder(root / "rows", rows)


@contextlib.contextmanager
def without_ray():
    """Let `run` end where Ray would start, and let no address be joined."""

    def start_run(context, words, stop):
        raise PointError("Far enough.")

    def connect(*args, **kwargs):
        raise ClusterError("Nobody is joined here.")

    kept = lead.start_run, sessions.connect
    lead.start_run, sessions.connect = start_run, connect
    try:
        yield
    finally:
        lead.start_run, sessions.connect = kept


def run_command(words, limit_s=LIMIT_S):
    """Run a command in this process and judge how it ends."""
    out, err = io.StringIO(), io.StringIO()
    code, wrong = None, ""

    def on_alarm(number, frame):
        raise OutOfTime

    kept = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    began = time.monotonic()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(words))
    except OutOfTime:
        wrong = f"not ended after {limit_s:g} s"
    except BaseException:  # noqa: BLE001 - whatever it is, no command may end with it
        wrong = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, kept)
    said = err.getvalue()
    return Ended(code, wrong or fault(code, said), time.monotonic() - began, said)


def fault(code, said):
    """What is wrong with the end of a command; empty for nothing."""
    if code not in CODES:
        return f"exit code {code}"
    if "Traceback" in said or "of raybench's own" in said:
        return said
    complaint = [line for line in said.splitlines() if line]
    if code == 2 and len(complaint) != 1:
        return f"{len(complaint)} lines instead of one: {said!r}"
    if code == 2 and len(complaint[0]) > 1600:
        return f"an endless sentence: {said[:300]!r}"
    return ""


def show(words):
    """Print a command and how it ends, to look into one."""
    print(words, run_command(words), file=sys.__stdout__)

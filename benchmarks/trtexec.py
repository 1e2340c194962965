"""Is raybench as fast as NVIDIA's trtexec on the same plans?

    python benchmarks/trtexec.py --trtexec PATH [--out results/trtexec] [--repeats 4] [--seconds 3]
        [--models googlenet,resnet50] [--precisions fp16,int8] [--batches 1,8,128]
        [--transfers on,off] [--budget SECONDS] [KEY=VALUE ...]

First raybench builds the plans, several at a time: one for each network and precision, for all
batches and tuned for the largest. Then the whole program (`raybench`, with the start of Ray) and
trtexec measure them by turns, A B B A: one run of raybench for all batches of a plan, and one of
trtexec for each. trtexec loads the file from raybench's cache, and what it loads is what raybench
ran: the hash of the file is the `engine_sha256` of the row. Both launch CUDA graphs, wait by
spinning and keep two batches in flight; trtexec runs with the libraries of the Python package, and
what it says of its own settings is checked.

KEY=VALUE are further words for raybench. Those of the engine decide the plan (`engine.streams=2` also
sets trtexec's --infStreams). Ratios are raybench over trtexec with the 95 % interval of the pairs:
the t interval of the logarithms, one pair a repeat. With --budget no turn begins after so many
seconds of measuring, and what was measured counts.

Prints a table, the lowest ratio and, last, one line of JSON; every run is a line of OUT/runs.jsonl.
Exit code 1 when the interval of a ratio lies below 1 or a run failed, 2 when it is refused before
anything runs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gpu
import numpy as np
import yaml
from _table import markdown

import raybench
from raybench.config.compose import read
from raybench.engines import registry
from raybench.engines.tensorrt import library, settings
from raybench.engines.tensorrt.engine import FOLDER
from raybench.engines.tensorrt.settings import TensorRTSettings
from raybench.experiment import ModelSettings
from raybench.machine import nvml
from raybench.models.cache import cache_dir
from raybench.models.prepare import prepare
from raybench.planning.plan import make_plan
from raybench.stats.ratios import ratio_ci

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from raybench.planning.plan import Plan

Row = dict[str, Any]
WARM_UP_MS = 500
ENOUGH_S = 600
ENDING_S = 60
FLIPPED = 11
"""First major version of trtexec whose defaults are graphs, spin waits and no transfers."""
OURS, THEIRS = "raybench", "trtexec"
WAYS = {"on": True, "off": False}


class Refused(Exception):
    """A reason not to begin, in a sentence."""


class Failed(Exception):
    """A run that gave no figure; the message says why."""


@dataclass(frozen=True, order=True)
class Group:
    """What one run of raybench measures: all batches of a network in one precision."""

    model: str
    precision: str


@dataclass(frozen=True, order=True)
class Cell:
    """One comparison."""

    model: str
    precision: str
    batch_size: int
    transfers: bool


@dataclass(frozen=True)
class Tool:
    """A trtexec binary.

    Attributes:
        path: the binary.
        version: major, minor and patch of the TensorRT that it was made for.
    """

    path: Path
    version: tuple[int, int, int]


@dataclass(frozen=True)
class Wanted:
    """What to measure and for how long.

    Attributes:
        cells: all comparisons.
        seconds: window of a measurement.
        engine: options of raybench's engine.
        words: further words for raybench.
    """

    cells: tuple[Cell, ...]
    seconds: float
    engine: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    @property
    def groups(self) -> list[Group]:
        """The networks and precisions, in order."""
        return list(dict.fromkeys(Group(cell.model, cell.precision) for cell in self.cells))

    @property
    def streams(self) -> int:
        """Batches that compute at the same time."""
        streams = self.engine.get("streams", 1)
        return streams if isinstance(streams, int) else 1  # raybench refuses any other

    def of(self, group: Group) -> list[Cell]:
        """Return the comparisons of a group."""
        return [cell for cell in self.cells if Group(cell.model, cell.precision) == group]


# --- trtexec --------------------------------------------------------------------------------------


def find_tool(path: Path) -> Tool:
    """Return the binary with its version.

    Raises:
        Refused: there is none, or it is no trtexec.
    """
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise Refused(f"--trtexec {path} is no program. Give the path of a trtexec binary.")
    try:
        said = _output([str(path.resolve()), "--help"], 60)
    except Failed as failed:
        raise Refused(f"--trtexec {path} does not run: {failed}") from failed
    found = re.search(r"\[TensorRT v(\d+)\]", said)
    if found is None:
        raise Refused(f"--trtexec {path} names no version of TensorRT, so it is no trtexec.")
    number = int(found[1])
    major, rest = divmod(number, 10_000 if number >= 10_000 else 1_000)  # 101303, but 8600
    return Tool(path.resolve(), (major, *divmod(rest, 100)))


def refuse_other_version(tool: Tool, ours: str) -> None:
    """Raise Refused unless trtexec is of the same TensorRT as the Python package."""
    if list(tool.version) != [int(part) for part in ours.split(".")[:3]]:
        theirs = ".".join(map(str, tool.version))
        raise Refused(
            f"{tool.path.name} is of TensorRT {theirs} and the Python package of {ours}: plans run "
            "only with the version that built them. Give a trtexec of the same version."
        )


def command(tool: Tool, plan: Path, shapes: dict[str, tuple[int, ...]], cell: Cell) -> list[str]:
    """Return trtexec's command line but for its times and streams; every version says the same."""
    sizes = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
    words = [str(tool.path), f"--loadEngine={plan}", f"--shapes={sizes}"]
    if tool.version[0] >= FLIPPED:
        return words + ["--includeDataTransfers"] * cell.transfers
    words += ["--useCudaGraph", "--useSpinWait"]
    return words + ["--noDataTransfers"] * (not cell.transfers)


def figures(said: str, cell: Cell) -> Row:
    """Return what trtexec measured, from what it printed.

    Raises:
        Failed: it ran with other settings than asked for, or printed no figures.
    """
    asked = {"CUDA Graph": True, "Spin-wait": True, "Data transfers": cell.transfers}
    for name, on in asked.items():
        found = re.search(rf"\b{name}: (Enabled|Disabled)", said)
        if found is None or (found[1] == "Enabled") != on:
            had = found[1].lower() if found else "not mentioned"
            raise Failed(f"{name} was {had}, not {'enabled' if on else 'disabled'}")
    if "graph capture on the stream has failed" in said:
        raise Failed("the CUDA graph could not be captured")
    rate = re.search(r"\bThroughput: ([\d.e+]+) qps", said)
    if rate is None:
        raise Failed("printed no throughput")
    return {
        "items_per_s": float(rate[1]) * cell.batch_size,
        "compute_ms": _median_ms("GPU Compute Time", said),
        "enqueue_ms": _median_ms("Enqueue Time", said),
    }


def _median_ms(name: str, said: str) -> float | None:
    found = re.search(rf"\b{name}: min = .*?median = ([\d.e+-]+) ms", said)
    return None if found is None else float(found[1])


def theirs(tool: Tool, wanted: Wanted, cell: Cell, sha256: str) -> Row:
    """Return what trtexec measures of a plan."""
    times = (f"--warmUp={WARM_UP_MS}", f"--duration={wanted.seconds:g}")
    streams = [f"--infStreams={wanted.streams}"] * (wanted.streams > 1)
    words = [*command(tool, plan_file(sha256), input_shapes(cell), cell), *times, *streams]
    said = _output(words, ENOUGH_S + wanted.seconds)
    return {**figures(said, cell), "plan_sha256": sha256, "command": " ".join(words)}


def plan_file(sha256: str) -> Path:
    """Return the file of a plan in raybench's cache, after reading it whole.

    Raises:
        Failed: no plan there has this content.
    """
    for header in sorted((cache_dir() / FOLDER).glob("*.json")):
        path = header.with_suffix(".plan")
        named = json.loads(header.read_text()).get("sha256") == sha256
        if named and path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return path.resolve()
    raise Failed(f"no plan in {cache_dir() / FOLDER} has the hash {sha256[:12]} of raybench's row")


def input_shapes(cell: Cell) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's inputs at a batch; they are the same in all precisions."""
    model = prepare(cell.model, ModelSettings(), "fp32", None, cache_dir())
    return {spec.name: spec.with_batch(cell.batch_size) for spec in model.inputs}


def _output(words: list[str], enough_s: float) -> str:
    """Return what a program printed.

    Raises:
        Failed: it did not end well; the message has its last error.
    """
    try:
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise Failed(f"{words[0]}: {error.strerror}") from error
    try:
        said, _ = process.communicate(timeout=enough_s)
    except subprocess.TimeoutExpired:
        raise Failed(f"did not end in {enough_s:.0f} s") from None
    finally:
        _end(process)
    if process.returncode:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        errors = [line for line in lines if "[E]" in line or "rror:" in line]
        last = (errors or lines or ["no words"])[-1]
        raise Failed(f"exit code {process.returncode}: {last[:300]}")
    return said


def _end(process: subprocess.Popen[str]) -> None:
    """Interrupt a program once, so that raybench ends what it started, and kill what stays."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=ENDING_S)
    if process.poll() is None:
        process.kill()
        process.communicate()


# --- raybench -------------------------------------------------------------------------------------


def raybench_words(group: Group, wanted: Wanted, folder: Path) -> list[str]:
    """Write the experiment of a group into a folder and return raybench's command line."""
    cells = wanted.of(group)
    grid = {
        "model": group.model,
        "precision": group.precision,
        "workers": 1,
        "batch_size": sorted({cell.batch_size for cell in cells}),
        "transfers": sorted({cell.transfers for cell in cells}),
        "inflight": 2 * wanted.streams,
    }
    question = folder / "trtexec.yaml"
    question.write_text(
        f"# Is raybench as fast as trtexec?\n{yaml.safe_dump({'grid': grid}, sort_keys=False)}"
    )
    options = [f"engine.{name}={_word(value)}" for name, value in wanted.engine.items()]
    return [
        *(f"experiment={question}", "engine=tensorrt", "device=gpu", "preset=quick", "trials=1"),
        *(f"measure.min_s={wanted.seconds:g}", f"measure.max_s={wanted.seconds:g}"),
        *(f"results.dir={folder}/rows", *options, *wanted.words),
    ]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def ours(group: Group, wanted: Wanted) -> dict[Cell, Row]:
    """Return what the whole program measures of a group; a point without a figure has a reason."""
    with tempfile.TemporaryDirectory() as folder:
        words = raybench_words(group, wanted, Path(folder))
        rows, failed = [], "no row"
        try:
            _output([sys.executable, "-m", "raybench", *words], ENOUGH_S * 3)
        except Failed as reason:  # its rows say more, if there are any
            failed = str(reason)
        with contextlib.suppress(raybench.RaybenchError):
            rows = raybench.load(f"{folder}/rows").to_pylist()
    found = {}
    for row in rows:
        cell = Cell(group.model, group.precision, row["batch_size"], row["transfers"])
        good = row["status"] == "ok"
        found[cell] = _our_figures(row) if good else {"reason": row["reason"] or row["status"]}
    return {cell: found.get(cell, {"reason": failed}) for cell in wanted.of(group)}


def _our_figures(row: Row) -> Row:
    return {
        "items_per_s": row["items_per_s"],
        "compute_ms": row["compute_ms_median"],
        "enqueue_ms": row["enqueue_ms_median"],
        "plan_sha256": row["engine_sha256"],
    }


# --- turns ----------------------------------------------------------------------------------------


def turns(groups: Iterable[Group], repeats: int) -> Iterator[tuple[int, Group, str]]:
    """Yield repeat, group and whose turn it is: A B B A A B B A for each group."""
    groups = list(groups)
    for repeat in range(repeats):
        pair = (OURS, THEIRS) if repeat % 2 == 0 else (THEIRS, OURS)
        yield from ((repeat, group, who) for group in groups for who in pair)


class Comparison:
    """Runs both by turns and keeps what they measured.

    Args:
        tool: the other one.
        wanted: what to measure.
        note: is given every row as it comes.
    """

    def __init__(self, tool: Tool, wanted: Wanted, note: Callable[[Row], None]) -> None:
        self._tool, self._wanted, self._note = tool, wanted, note
        self._plans: dict[Cell, str] = {}
        self.rows: list[Row] = []

    def run(self, repeats: int, stop: float) -> None:
        """Take all turns; none begins after `stop` on the monotonic clock."""
        for repeat, group, who in turns(self._wanted.groups, repeats):
            if time.monotonic() > stop:
                break
            measured = self._raybench(group) if who == OURS else self._trtexec(group)
            for cell, row in measured:
                self.rows.append({"tool": who, "repeat": repeat, **asdict(cell), **row})
                self._note(self.rows[-1])

    def _raybench(self, group: Group) -> Iterator[tuple[Cell, Row]]:
        for cell, row in ours(group, self._wanted).items():
            sha256 = row.get("plan_sha256")
            if sha256 is not None and self._plans.setdefault(cell, sha256) != sha256:
                row = {"reason": "raybench built another plan than in the first repeat"}
            yield cell, row

    def _trtexec(self, group: Group) -> Iterator[tuple[Cell, Row]]:
        for cell in self._wanted.of(group):
            if cell in self._plans:
                try:
                    yield cell, theirs(self._tool, self._wanted, cell, self._plans[cell])
                except Failed as failed:
                    yield cell, {"reason": str(failed)}


# --- result ---------------------------------------------------------------------------------------


def compare(cell: Cell, rows: Iterable[Row]) -> Row | None:
    """Return the ratio of a comparison over its pairs; None when there is no pair."""
    found: dict[int, dict[str, Row]] = {}
    for row in rows:
        if "items_per_s" in row and all(row[k] == v for k, v in asdict(cell).items()):
            found.setdefault(row["repeat"], {})[row["tool"]] = row
    pairs = [(pair[OURS], pair[THEIRS]) for pair in found.values() if len(pair) == 2]
    if not pairs:
        return None
    rates = np.array([[row["items_per_s"] for row in pair] for pair in pairs])
    ratios = rates[:, 0] / rates[:, 1]
    span = ratio_ci(ratios, np.ones_like(ratios)) if len(pairs) > 1 else None
    return {
        **asdict(cell),
        "ratio": float(np.exp(np.log(ratios).mean())),
        "lo": span and span.lo,
        "hi": span and span.hi,
        "pairs": len(pairs),
        **{f"{who}_items_per_s": float(np.median(rates[:, i])) for i, who in enumerate(_BOTH)},
        **{f"{who}_compute_ms": _middle(pairs, i) for i, who in enumerate(_BOTH)},
    }


_BOTH = (OURS, THEIRS)


def _middle(pairs: list[tuple[Row, Row]], side: int) -> float | None:
    known = [pair[side]["compute_ms"] for pair in pairs if pair[side]["compute_ms"] is not None]
    return statistics.median(known) if known else None


def report(wanted: Wanted, rows: list[Row], facts: Row) -> int:
    """Print the table, the lowest ratio and one line of JSON; return the exit code."""
    compared = [row for cell in wanted.cells if (row := compare(cell, rows)) is not None]
    heads = ("plan", "batch", "transfers", "trtexec items/s", "raybench items/s", "ratio", "95 %",
             "pairs", "trtexec ms", "raybench ms")  # fmt: skip
    right = ", ".join(head for head in heads if head not in ("plan", "transfers"))
    print("\n".join(markdown(heads, map(_cells, compared), right)))
    bad = [row for row in rows if "reason" in row]
    for row in bad:
        print(f"{row['tool']}, {_name(row)}: {row['reason']}")
    below = [row for row in compared if row["hi"] is not None and row["hi"] < 1]
    lowest = min(compared, key=lambda row: row["ratio"], default=None)
    missing = len(wanted.cells) - len(compared)
    if missing:
        print(f"{missing} of {len(wanted.cells)} comparisons have no pair.")
    if lowest is not None:
        print(f"{len(below)} of {len(compared)} ratios lie below 1 with their whole interval.")
        print(f"lowest ratio: {lowest['ratio']:.4f}{_interval(lowest)}, {_name(lowest)}")
    ok = not (below or bad or missing)
    result = {"benchmark": "trtexec", "ok": ok, "lowest": lowest, **facts, "ratios": compared}
    print(json.dumps(result))
    return 0 if ok else 1


def _cells(row: Row) -> list[Any]:
    ms = ("" if row[f"{who}_compute_ms"] is None else f"{row[f'{who}_compute_ms']:.4f}"
          for who in (THEIRS, OURS))  # fmt: skip
    return [
        *(f"{row['model']} {row['precision']}", row["batch_size"], _on(row)),
        *(f"{row[f'{who}_items_per_s']:,.0f}" for who in (THEIRS, OURS)),
        *(f"{row['ratio']:.4f}", _interval(row).strip(), row["pairs"], *ms),
    ]


def _interval(row: Row) -> str:
    return "" if row["lo"] is None else f" [{row['lo']:.4f}, {row['hi']:.4f}]"


def _name(row: Row) -> str:
    return f"{row['model']} {row['precision']} batch {row['batch_size']} transfers {_on(row)}"


def _on(row: Row) -> str:
    return "on" if row["transfers"] else "off"


# --- start ----------------------------------------------------------------------------------------


def ready(path: Path) -> tuple[Tool, Row]:
    """Return trtexec and facts on this machine, with one GPU visible to whatever is started.

    Raises:
        Refused: something is missing or does not fit.
    """
    tool = find_tool(path)
    gpus = nvml.inventory()
    if not gpus:
        raise Refused("The driver shows no NVIDIA GPU here, and both tools need one.")
    reason = registry.get("tensorrt").unavailable()
    if reason:
        raise Refused(reason)
    version = str(library.load().__version__)
    refuse_other_version(tool, version)
    mine = gpus[0]
    if len(gpus) > 1:  # trtexec takes the first that it sees, and Ray might choose another
        first = os.environ.get("CUDA_VISIBLE_DEVICES", mine.uuid).split(",")[0]
        mine = next((gpu for gpu in gpus if first in (gpu.uuid, str(gpu.index))), mine)
        os.environ.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES=first)
    facts = {"gpu": mine.name, "driver": mine.driver_version, "tensorrt": version}
    return tool, {**facts, "raybench": raybench.__version__}


def use_libraries_of_the_package() -> None:
    """Let trtexec run with the libraries that raybench runs with."""
    specs = (find_spec(name) for name in ("tensorrt", "tensorrt_libs"))
    folders = [str(Path(spec.origin).parent) for spec in specs if spec and spec.origin]
    known = os.environ.get("LD_LIBRARY_PATH")
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join([*folders, *([known] if known else [])])


def _absolute(model: str) -> str:
    """Return the path of a file as any folder understands it, or a name of the zoo."""
    return str(Path(model).resolve()) if model.endswith(".onnx") else model


def wanted_of(options: argparse.Namespace) -> Wanted:
    """Return what the command line asks for."""
    cells = itertools.product(
        map(_absolute, options.models), options.precisions, options.batches, options.transfers
    )
    given = dict(options.words)
    engine = {k.removeprefix("engine."): yaml.safe_load(v) for k, v in given.items()
              if k.startswith("engine.")}  # fmt: skip
    largest = {"largest_batch": max(options.batches), "best_batch": max(options.batches)}
    return Wanted(
        tuple(itertools.starmap(Cell, cells)),
        options.seconds,
        {**gpu.BUILDER, **largest, **engine},
        tuple(f"{k}={v}" for k, v in options.words if not k.startswith("engine.")),
    )


def plan_of(words: list[str]) -> Plan:
    """Return what raybench would measure on one GPU; raises what it would refuse."""
    request = read(words).resolve({"cpu": 1, "gpu": 1})
    isolation = request.cluster.isolation
    plan = make_plan(request.experiment, request.devices, isolation, "one GPU")
    settings.check(TensorRTSettings(**dict(plan.points[0].engine_options)))
    return plan


def build(wanted: Wanted, out: Path) -> None:
    """Build the plans, several at a time; raybench itself builds what is left."""
    cases = [{**asdict(cell), "options": wanted.engine} for cell in wanted.cells]
    job = {"id": "trtexec", "kind": "points", "part": "trtexec", "cases": cases}
    gpu.build([job], out, time.monotonic() + 3 * ENOUGH_S, "tensorrt")


def _list_of(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def values(text: str) -> list[Any]:
        try:
            return list(dict.fromkeys(kind(part) for part in text.split(",")))
        except (KeyError, ValueError) as error:
            raise argparse.ArgumentTypeError(f"{text!r} has an unknown value") from error

    return values


def _pair(word: str) -> tuple[str, str]:
    key, given, value = word.partition("=")
    if not given:
        raise argparse.ArgumentTypeError(f"{word!r} is no KEY=VALUE")
    return key, value


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trtexec", type=Path, required=True, help="the binary")
    parser.add_argument("--out", type=Path, default=Path("results/trtexec"))
    parser.add_argument("--repeats", type=int, default=4, help="pairs, 2 or more; default 4")
    parser.add_argument("--seconds", type=float, default=3.0, help="a window; default 3")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds of measuring")
    parser.add_argument("--models", type=_list_of(str), default="googlenet,resnet50")
    parser.add_argument("--precisions", type=_list_of(str), default="fp16,int8")
    parser.add_argument("--batches", type=_list_of(int), default="1,8,128")
    parser.add_argument("--transfers", type=_list_of(WAYS.__getitem__), default="on,off")
    more: Row = {"nargs": "*", "type": _pair, "metavar": "KEY=VALUE"}
    parser.add_argument("words", **more, help="more words for raybench")
    return parser


def main(words: list[str] | None = None) -> int:
    """Build, measure and print; return the exit code."""
    parser = arguments()
    options = parser.parse_args(words)
    if options.repeats < 2:
        parser.error("--repeats must be 2 or more: one pair has no interval.")
    wanted = wanted_of(options)
    use_libraries_of_the_package()
    began = datetime.now(timezone.utc).isoformat(timespec="seconds")
    try:
        tool, facts = ready(options.trtexec)
        for group in wanted.groups:
            with tempfile.TemporaryDirectory() as folder:
                plan_of(raybench_words(group, wanted, Path(folder)))
    except (Refused, raybench.RaybenchError) as refused:
        print(f"trtexec.py: {refused}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "runs.jsonl").open("a") as file:

        def note(row: Row) -> None:
            file.write(json.dumps({"began": began, **row}) + "\n")
            file.flush()
            what = row.get("reason") or f"{row['items_per_s']:,.0f} items/s"
            print(f"{row['repeat'] + 1}  {row['tool']:<9}{_name(row):<40}{what}", file=sys.stderr)

        comparison = Comparison(tool, wanted, note)
        try:
            build(wanted, options.out)
            comparison.run(options.repeats, time.monotonic() + options.budget)
        except KeyboardInterrupt:
            report(wanted, comparison.rows, facts)
            return 130
    return report(wanted, comparison.rows, facts)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())

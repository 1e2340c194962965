"""The command line: a verb, then key=value words; one call; an exit code.

Exit codes: 0 every point has a final row and none failed; 1 some failed, or `compare` found a
regression; 2 usage or configuration, nothing was started; 3 `compare --strict` is undecided; 130
interrupted, rows kept.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import TYPE_CHECKING, Any

from raybench.errors import ConfigError, RaybenchError, UsageError, nearest
from raybench.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raybench.config.settings import ClusterSettings, Request

HELP = """\
raybench {version}: how fast a machine or a cluster runs deep-learning inference, and how that grows.

usage: raybench [verb] [experiment=NAME] [key=value ...]

verbs
  run       measure an experiment (this is the default verb)
  plan      show its points and the least time they take; starts nothing
  list      experiments, models, engines and presets
  doctor    what this machine, or the cluster at cluster.address, can do and what is in the way
  show DIR  the table of a results folder
  compare A B
            what became faster or slower, point by point; a gate for CI
  report DIR...
            one offline page, the same figures as files, and Markdown

examples
  raybench experiment=scaling
  raybench experiment=precision engine=onnxruntime trials=3
  raybench plan experiment=paper device=gpu cluster.gpus=4
  raybench experiment=smoke model=mine.onnx model.shapes.sequence=128
  raybench experiment=scaling cluster.address=10.0.0.1:6379
  raybench compare old new by=engine_version format=markdown
  raybench report results other/results out=report by=device

keys
  model, precision, batch_size, workers, engine, inflight, transfers
            the axes: one value or a list, e.g. batch_size=[1,8,32] or batch_size=max
  device=auto|cpu|gpu    preset=quick|standard|publish    trials=N    rerun=failed|unstable|all
  results.dir=DIR        device.memory_limit=24GiB        engine.OPTION=...
  cluster.isolation=cluster|node|gpu    cluster.retries=N
  of report: out=DIR  title=TEXT  by=FACTOR  base=VALUE  scaling.mode=weak|strong
             usd_per_device_hour=PRICE
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or {"-h", "--help", "help"} & set(words):
        print(HELP.format(version=__version__), end="")
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    verb = words.pop(0) if "=" not in words[0] else "run"
    try:
        if verb not in VERBS:
            raise ConfigError(f"Unknown verb {verb!r}. {nearest(verb, VERBS)}")
        return VERBS[verb](words)
    except UsageError as error:
        print(f"raybench: {error}", file=sys.stderr)
        return 2
    except RaybenchError as error:
        print(f"raybench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("raybench: interrupted; rows that were written are kept.", file=sys.stderr)
        return 130


def _compose(words: list[str], stack: contextlib.ExitStack) -> tuple[Request, Any]:
    """The request, and the session when it had to be joined to learn what there is."""
    from raybench.cluster import nodes, preflight, session
    from raybench.config.compose import read
    from raybench.engines import registry

    joined: list[Any] = []

    def devices(cluster: ClusterSettings) -> Mapping[str, int]:
        address = preflight.requested_address(cluster.address)
        if address is None and cluster.select:
            raise ConfigError(
                "cluster.select chooses among the nodes of a cluster, and Ray is started on this "
                "machine. Leave it out, or give cluster.address."
            )
        if address is None:
            return session.local_devices(cluster.gpus, cluster.cpus)
        cluster_joined = stack.enter_context(session.connect(address, {}, False))
        joined.append(cluster_joined.selected(cluster.select))
        return dict(joined[0].devices)

    def unavailable(engine: str, kind: str) -> str | None:
        if joined:
            return nodes.unavailable(joined[0].facts, engine, kind)
        return registry.unavailable_here(engine, kind)

    draft = read(words)
    request = draft.resolve(devices(draft.cluster), unavailable)
    return request, (joined[0] if joined else None)


def _run(words: list[str]) -> int:
    gc.disable()  # until the run begins: nothing that is loaded before becomes garbage
    try:
        from raybench.cli import run

        with contextlib.ExitStack() as stack:
            request, session = _compose(words, stack)
            return run.run(request, session, stack)
    finally:
        gc.enable()


def _plan(words: list[str]) -> int:
    from raybench.cli import run

    with contextlib.ExitStack() as stack:
        request, session = _compose(words, stack)
        run.show_plan(request, session)
    return 0


def _list(words: list[str]) -> int:
    from raybench.cli import list as catalogue

    catalogue.show(words)
    return 0


def _doctor(words: list[str]) -> int:
    from raybench.cli import doctor

    return doctor.examine(words)


def _compare(words: list[str]) -> int:
    from raybench.cli import compare

    return compare.gate(words)


def _show(words: list[str]) -> int:
    from raybench.cli import run

    if len(words) != 1:
        raise ConfigError("show takes one results folder. Write: raybench show results")
    run.show(words[0])
    return 0


def _report(words: list[str]) -> int:
    from raybench.report.analyses import question
    from raybench.report.build import report

    options = dict(word.split("=", 1) for word in words if _is_option(word))
    folders = [word for word in words if not _is_option(word)]
    if not folders:
        raise ConfigError("report takes results folders. Write: raybench report results")
    out, title = options.pop("out", None), options.pop("title", None)
    written = report(folders, out, title=title, question=question(options))
    for note in written.notes:
        print(f"raybench: {note}", file=sys.stderr)
    others = len(written.files) - 1
    print(f"Report  {written.page}")
    print(f"        {others} files beside it: report.md, and figures/ as SVG and PNG")
    return 0


def _is_option(word: str) -> bool:
    """A folder may have an equals sign in its name, and so may the address of a store."""
    return "=" in word and "://" not in word.partition("=")[0] and not os.path.isdir(word)


VERBS: dict[str, Callable[[list[str]], int]] = {
    "run": _run,
    "plan": _plan,
    "list": _list,
    "doctor": _doctor,
    "show": _show,
    "compare": _compare,
    "report": _report,
}

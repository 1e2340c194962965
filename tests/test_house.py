"""Rules of the code base that no linter checks: words, sizes, names and private names of Ray."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import raybench

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "raybench"
MODULES = sorted(PACKAGE.rglob("*.py"))
FILE_LINES, CLASS_METHODS, FUNCTION_LINES, ARGUMENTS, TOP_LEVEL_NAMES = 400, 15, 60, 6, 20
HALVES = ("ga ng", "cr ew", "se at", "age nda", "to ld", "me nd", "ki n", "fare well", "ref uge",
          "hope less")  # fmt: skip
"""Words that the glossary replaces, in two halves so that this file does not contain them."""
BANNED = re.compile(
    rf"(?<![a-z])(?:{'|'.join(word.replace(' ', '') for word in HALVES)})s?(?![a-z])",
    re.IGNORECASE,
)
EXCEPTIONS = {
    "raybench/engines/tensorrt/cuda.py:Cuda": "one method per call of the CUDA runtime",
    "raybench/models/builder.py:GraphBuilder": "one method per operator of a network",
    "raybench/models/builder.py:conv": "the parameters of a convolution",
    "raybench/analysis/compare.py:compare": "public; all but the two tables are keywords",
    "raybench/results/store.py:write_point": "one keyword per table of a results folder",
}
"""Classes and functions that may be larger, as `path:name`, each with its reason."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'name', '')}"


def nodes(*kinds: type[ast.AST]) -> list[tuple[Path, ast.AST]]:
    """Return each node of these kinds in the package, unless it is an exception."""
    pairs = [(path, node) for path in MODULES for node in ast.walk(tree(path))]
    return [(p, n) for p, n in pairs if isinstance(n, kinds) and place(p, n) not in EXCEPTIONS]


def functions() -> list[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    return nodes(ast.FunctionDef, ast.AsyncFunctionDef)


def test_no_text_uses_a_word_that_the_glossary_replaces():
    listing = subprocess.run(
        ["git", "ls-files", "raybench", "tests", "docs", "benchmarks", "examples", "README.md"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    folders = ("raybench", "tests", "docs", "benchmarks", "examples")
    paths = [ROOT / name for name in listing.stdout.splitlines()] or [
        ROOT / "README.md", *(path for name in folders for path in (ROOT / name).rglob("*"))
    ]  # fmt: skip
    uses = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        if path.suffix in {".py", ".md", ".js", ".css", ".yaml", ".sh"} and path.is_file()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if BANNED.search(line)
    ]
    assert not uses, "\n".join(uses)


def test_no_class_name_is_defined_twice():
    counts = Counter(node.name for _, node in nodes(ast.ClassDef))
    twice = [place(p, n) for p, n in nodes(ast.ClassDef) if counts[n.name] > 1]
    assert not twice, sorted(twice, key=lambda text: text.rpartition(":")[2])


def test_no_module_has_the_name_of_one_of_the_standard_library():
    names = {path.stem if path.stem != "__init__" else path.parent.name for path in MODULES}
    dunders = {"__main__", "__future__"}
    shadowing = (names & sys.stdlib_module_names) - dunders
    assert not shadowing


def test_no_file_is_longer_than_400_lines():
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in MODULES}
    assert not {name: lines for name, lines in lengths.items() if lines > FILE_LINES}


def test_no_class_has_more_than_15_methods():
    methods = {
        place(p, n): sum(isinstance(m, ast.FunctionDef | ast.AsyncFunctionDef) for m in n.body)
        for p, n in nodes(ast.ClassDef)
    }
    assert not {name: count for name, count in methods.items() if count > CLASS_METHODS}


def test_no_function_is_longer_than_60_lines_without_its_docstring():
    lines = {
        place(p, n): n.end_lineno - n.lineno + 1 - len((ast.get_docstring(n) or "").splitlines())
        for p, n in functions()
    }
    assert not {name: count for name, count in lines.items() if count > FUNCTION_LINES}


def test_no_function_has_more_than_6_arguments():
    counts = {}
    for path, node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        counts[place(path, node)] = sum(a.arg not in ("self", "cls") for a in arguments)
    assert not {name: count for name, count in counts.items() if count > ARGUMENTS}


def test_private_names_of_ray_are_used_in_one_file():
    allowed = PACKAGE / "cluster" / "ray_internals.py"
    uses = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
        for path in MODULES
        if path != allowed
        for node in ast.walk(tree(path))
        for name in private_names_of_ray(node)
    ]
    assert not uses


def private_names_of_ray(node: ast.AST) -> list[str]:
    """Return the dotted names of Ray, among those the node uses, with a private part."""
    if isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.Attribute):
        names = [ast.unparse(node)]
    elif isinstance(node, ast.Call):
        names = [f"{ast.unparse(node.func)}.{word.arg}" for word in node.keywords if word.arg]
    else:
        return []
    return [name for name in names if re.match(r"ray\.(.*\.)?_(?!_)\w+$", name)]


def test_the_package_has_at_most_20_names_at_its_top():
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert len([name for name in names if not name.startswith("__")]) <= TOP_LEVEL_NAMES


def test_at_most_five_exceptions_are_named_and_each_exists_and_has_a_reason():
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    defined = {place(p, n) for p in MODULES for n in ast.walk(tree(p)) if isinstance(n, kinds)}
    assert len(EXCEPTIONS) <= 5
    assert set(EXCEPTIONS) <= defined
    assert all(EXCEPTIONS.values())


def test_the_stub_of_the_package_declares_the_names_that_it_offers():
    stub = tree(PACKAGE / "__init__.pyi")
    listed = next(
        ast.literal_eval(node.value) for node in stub.body if isinstance(node, ast.Assign)
    )
    imported = {
        (node.module, alias.asname or alias.name): alias.name
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    offered = {
        (module, name): attribute for name, (module, attribute) in raybench._DEFINED_IN.items()
    }
    assert listed == raybench.__all__
    assert imported == {**offered, ("raybench.version", "__version__"): "__version__"}


def test_words_reach_the_terminal_by_one_door():
    """Everything printed passes `raybench.report.terminal.console` or `raybench.text.printable`."""
    door = PACKAGE / "report" / "terminal" / "console.py"
    printers = {PACKAGE / "cli" / "main.py", PACKAGE / "machine" / "crash_log.py"}
    uses = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        if path != door
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and (
            ast.unparse(node.func) in ("Text", "Console")
            or (ast.unparse(node.func) == "print" and path not in printers)
            or ast.unparse(node.func).endswith("console.print")
        )
    ]
    assert not uses

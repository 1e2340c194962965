"""The documentation says what the code says: generated pages are fresh, names and paths exist."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import raybench

ROOT = Path(raybench.__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
PATHS = re.compile(
    r"(?<![\w./-])((?:raybench|docs|tests|benchmarks|conf|deploy|examples|experiments)/[\w./-]*\w)"
)
NAMES = re.compile(r"(?<![\w./-])raybench(?:\.[a-z_]\w*)+(?:\.\w+)*")
TOOLS = Path(sys.executable).parent


def read(path):
    return path.read_text(encoding="utf-8")


def generated():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


@pytest.mark.parametrize("name", ["configuration", "columns", "flags", "command-line"])
def test_a_generated_page_is_what_the_code_says_today(name):
    page = DOCS / "reference" / f"{name}.md"
    assert read(page) == generated()[page], "The page is stale. Run: make docs"


def test_every_key_and_column_has_a_meaning():
    for page in ("configuration", "columns"):
        bare = re.findall(r"^\| (`\S+`) .*\|\s*\|$", read(DOCS / "reference" / f"{page}.md"), re.M)
        bare = [name for name in bare if name.strip("`") not in raybench_axes()]
        assert bare == [], f"{page}.md has entries without a meaning"


def raybench_axes():
    return importlib.import_module("raybench.experiment").AXES


def exists(dotted):
    """Whether a dotted name of the package can be reached: modules first, then attributes."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_and_paths_on_a_page_exist(page):
    text = read(page)
    if page == ROOT / "CHANGELOG.md":
        return  # tells of older states, too
    written = {path for path in PATHS.findall(text) if "NAME" not in path}
    missing = {path for path in written if not (ROOT / path).exists()}
    assert missing == set()
    names = set(NAMES.findall(text)) - {"raybench.engines"}
    assert {name for name in names if not exists(name)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_hold(page):
    """mkdocs checks its own pages; these are the links of the pages beside it, too."""
    targets = re.findall(r"\]\((?!\w+:)([^)#]+)", read(page))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_map_names_everything_in_the_package():
    listed = read(DOCS / "architecture.md")
    inside = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / "raybench").iterdir()
        if not path.name.startswith("__") and (path.is_dir() or path.suffix == ".py")
        if path.name != "_data"
    }
    assert [name for name in sorted(inside) if f"`{name}`" not in listed] == []


def test_the_page_of_engines_shows_the_example_as_it_is():
    shown = re.findall(r"```(?:python|toml)\n(.*?)```", read(DOCS / "engines.md"), re.DOTALL)
    for name in ("raybench_reference.py", "pyproject.toml", "test_raybench_reference.py"):
        assert read(ROOT / "examples" / "engine_plugin" / name) in shown


def test_the_messages_on_the_page_of_troubleshooting_are_those_of_the_code():
    """A message counts as the code's when one of its parts that hold no value is in the code."""
    source = "".join(read(path) for path in (ROOT / "raybench").rglob("*.py"))
    source = re.sub(r'"\n\s*f?"', "", source)
    quoted = re.findall(r"^\*\*`(.+?)`\*\*", read(DOCS / "troubleshooting.md"), re.MULTILINE)
    assert len(quoted) > 10
    strange = []
    for message in quoted:
        parts = re.split(r"'[^']*'|\d[\d.]*|\.\.\.|[.:;,?] ", message)
        if not any(part.strip(" .") in source for part in parts if len(part.strip(" .")) >= 8):
            strange.append(message)
    assert strange == []


def test_the_readme_is_short():
    assert len(read(ROOT / "README.md").splitlines()) <= 150


def test_versions_agree():
    citation = yaml.safe_load(read(ROOT / "CITATION.cff"))
    assert re.search(
        rf"^## \[?{re.escape(citation['version'])}\]?", read(ROOT / "CHANGELOG.md"), re.M
    )
    assert citation["license"] == "Apache-2.0"


def tool(name, *words):
    program = shutil.which(name, path=str(TOOLS))
    if program is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run(
        [program, *map(str, words)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_of_public_ci_passes_its_audit():
    tool("zizmor", "--offline", "--no-progress", "--strict-collection", ".github/workflows")


def test_the_hooks_before_a_commit_are_well_formed():
    tool("pre-commit", "validate-config", ".pre-commit-config.yaml")

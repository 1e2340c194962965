"""The action for GitHub in deploy/github: its files are valid, and its script judges runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.many_runs import ManyRuns
from test_deploy import DEPLOY, run

import raybench

ACTION = DEPLOY / "github"
PYTHON = f"""#!{sys.executable}
import os, sys
sys.path[:0] = os.environ["MODULES"].split(":")
from pathlib import Path
words = sys.argv[1:]
if words[:3] != ["-m", "raybench", "run"]:
    from raybench.cli.main import main
    sys.exit(main(words[2:]))
from helpers.many_runs import FIRST_DAY, ManyRuns
from datetime import timedelta
folder = next(w.removeprefix("results.dir=") for w in words if w.startswith("results.dir="))
night, level = int(os.environ["NIGHT"]), float(os.environ["LEVEL"])
day = lambda run: {{"started_at": FIRST_DAY + timedelta(days=night)}}
ManyRuns([level], count=2, seed=night, columns=day).write(folder)
Path(os.environ["SAID"]).write_text(" ".join(words))
sys.exit(int(os.environ.get("RUN_CODE", 0)))
"""
"""Stands in for `python -m raybench run`, whose rows it makes up; every other verb is the real one."""
GH = """#!/bin/bash
echo "$@" > "$COMMENTED"
exit "${GH_CODE:-0}"
"""


@pytest.fixture
def judge(tmp_path):
    """Return a function that runs judge.sh with a level of the made-up run."""
    for name, text in (("python", PYTHON), ("gh", GH)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    nights = iter(range(100))

    def call(level, judge="trend", **more):
        environment = {
            **os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "MODULES": f"{Path(raybench.__file__).parents[1]}:{Path(__file__).parent}",
            "MEASURE": "experiment=smoke\ntrials=2\n", "JUDGE": judge, "LEVEL": str(level),
            "HISTORY": str(tmp_path / "history"), "NIGHT": str(next(nights)),
            "GITHUB_RUN_ID": f"{next(nights):03}", "RUNNER_TEMP": str(tmp_path),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            "GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_SHA": "0123456789abcdef",
            "SAID": str(tmp_path / "said"), "COMMENTED": str(tmp_path / "commented"), **more,
        }  # fmt: skip
        done = subprocess.run(
            ["bash", ACTION / "judge.sh"], env=environment, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    return call


def test_the_files_are_valid():
    run("bash", "-n", ACTION / "judge.sh")
    run("shellcheck", "--shell=bash", ACTION / "judge.sh")
    rules = (
        "{extends: default, rules: {document-start: disable, truthy: {check-keys: false}, "
        "comments: {min-spaces-from-content: 1}, line-length: {max: 110}}}"
    )
    for name in ("action.yml", "nightly.yml"):
        run("yamllint", "--strict", "-d", rules, ACTION / name)


def test_the_action_and_the_sample_pass_the_audit(tmp_path):
    workflows = tmp_path / ".github" / "workflows"
    workflows.mkdir(parents=True)
    (workflows / "nightly.yml").write_text((ACTION / "nightly.yml").read_text())
    (tmp_path / "action.yml").write_text((ACTION / "action.yml").read_text())
    run("zizmor", "--offline", "--no-progress", "--strict-collection", tmp_path)


def test_the_sample_gives_the_action_inputs_that_it_has():
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    sample = yaml.safe_load((ACTION / "nightly.yml").read_text())
    steps = [step for job in sample["jobs"].values() for step in job["steps"]]
    given = [step["with"] for step in steps if step["uses"] == "./deploy/github"]
    assert len(given) == 2
    for inputs in given:
        assert inputs.keys() <= action["inputs"].keys()
    needed = {name for name, facts in action["inputs"].items() if facts.get("required")}
    assert all(needed <= inputs.keys() for inputs in given)


def test_a_first_run_has_nothing_to_be_compared_with(judge, tmp_path):
    assert judge(1.0, "compare")[0] == 0
    assert "this one is the first" in (tmp_path / "summary.md").read_text()
    said = (tmp_path / "said").read_text()
    assert "experiment=smoke trials=2 results.dir=" in said
    assert said.endswith("tags.commit=0123456789")


def test_a_slower_run_fails_the_comparison_and_is_commented_on(judge, tmp_path):
    judge(1.0)
    code, out = judge(0.5, "compare\nthreshold=5%", COMMENT_ON="7")
    assert code == 1, out
    assert "**regressed**" in (tmp_path / "summary.md").read_text()
    commented = (tmp_path / "commented").read_text()
    assert commented.startswith("pr comment 7 --body-file ")
    output = dict(line.split("=", 1) for line in (tmp_path / "output").read_text().splitlines())
    assert output["exit-code"] == "1"
    assert Path(output["results"]).is_dir()
    assert Path(output["summary"]).read_text().startswith("### raybench compare")


def test_nights_are_one_trend(judge, tmp_path):
    history = tmp_path / "history" / "2026-01-01T000000Z-earlier-1"
    ManyRuns([1.0] * 8, count=2).write(history)
    code, out = judge(1.0, "trend\ntolerance=2%", NIGHT="20")
    assert code == 0, out
    assert "9 runs from 2026-10-01 to 2026-10-21" in (tmp_path / "summary.md").read_text()


def test_what_fails_is_not_hidden(judge, tmp_path):
    code, _ = judge(1.0, RUN_CODE="1")
    assert code == 1
    assert "A point of this run failed" in (tmp_path / "summary.md").read_text()
    assert judge(1.0, RUN_CODE="2")[0] == 2
    code, out = judge(1.0, "trend\nby=colour")
    assert code == 2
    assert "Unknown factor" in out
    assert judge(1.0, "destroy")[0] == 2


def test_a_comment_that_cannot_be_written_is_a_warning(judge):
    code, out = judge(1.0, COMMENT_ON="7", GH_CODE="1")
    assert code == 0
    assert "::warning::The comment on pull request 7" in out

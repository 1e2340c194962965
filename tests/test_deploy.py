"""The recipes in deploy/ are well-formed by the tools of their own trade."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import raybench
from raybench.cluster.monitor import READINGS

ROOT = Path(raybench.__file__).parents[1]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent


def run(tool, *words):
    program = shutil.which(tool, path=str(BIN)) or shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["job.sh", "slurm.sbatch"])
def test_shell_scripts(name):
    run("bash", "-n", DEPLOY / name)
    run("shellcheck", "--shell=bash", DEPLOY / name)


def test_dockerfile():
    run("hadolint", DEPLOY / "Dockerfile")


@pytest.mark.parametrize("name", ["kuberay.yaml", "prometheus.yml"])
def test_yaml(name):
    rules = "{extends: default, rules: {document-start: disable, line-length: {max: 100}}}"
    run("yamllint", "--strict", "-d", rules, DEPLOY / name)


def test_the_manifest_names_the_ray_that_is_tested():
    manifest = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())
    pinned = re.search(r"^ray==([\d.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == pinned[1]
    niceness = cluster["headGroupSpec"]["rayStartParams"]["system-config"].strip("'")
    assert json.loads(niceness) == {"worker_niceness": 0}


def test_every_reading_has_a_panel():
    shown = json.loads((DEPLOY / "grafana.json").read_text())
    queries = [target["expr"] for panel in shown["panels"] for target in panel["targets"]]
    for name in READINGS:
        assert any(f"ray_raybench_{name}{{" in query for query in queries)
    assert all('experiment=~"$experiment"' in query for query in queries)

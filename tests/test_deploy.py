"""The files in deploy/ are valid by the checkers of their own formats."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

import raybench
from raybench.cluster.metrics import READINGS

ROOT = Path(raybench.__file__).parents[1]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent


def run(tool, *arguments):
    program = shutil.which(tool, path=str(BIN)) or shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["job.sh", "slurm.sbatch"])
def test_shell_scripts_are_valid(name):
    run("bash", "-n", DEPLOY / name)
    run("shellcheck", "--shell=bash", DEPLOY / name)


def test_the_dockerfile_is_valid():
    run("hadolint", DEPLOY / "Dockerfile")


@pytest.mark.parametrize("name", ["kuberay.yaml", "prometheus.yml"])
def test_yaml_files_are_valid(name):
    rules = "{extends: default, rules: {document-start: disable, line-length: {max: 100}}}"
    run("yamllint", "--strict", "-d", rules, DEPLOY / name)


def test_the_manifest_names_the_ray_that_is_tested():
    manifest = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())
    pinned = re.search(r"^ray==([\d.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == pinned[1]
    niceness = cluster["headGroupSpec"]["rayStartParams"]["system-config"].strip("'")
    assert json.loads(niceness) == {"worker_niceness": 0}


def test_the_manifest_is_a_ray_job_of_valid_pods_on_a_cluster_of_fixed_size():
    manifest = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    assert manifest["spec"]["entrypoint"].startswith("python -m raybench experiment=")
    cluster = manifest["spec"]["rayClusterSpec"]
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        for container in group["template"]["spec"]["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **group["template"]}
        kubernetes_validate.validate(pod, "1.33", strict=True)


def test_the_image_has_all_files_that_the_package_is_built_from():
    copied = {
        name
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for name in line.split()[1:-1]
    }
    text = (ROOT / "pyproject.toml").read_text()
    included = re.search(r"wheel.force-include\]\n((?:\".*\n)+)", text)[1]
    needed = set(re.findall(r'^"(\w+)"', included, re.MULTILINE))
    needed |= {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "raybench"}
    assert needed == copied
    assert all((ROOT / name).exists() for name in copied)


def missing_paths(expected, actual, path=""):
    """Return the paths of values in one JSON value that another one lacks."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        pairs = [(expected[key], actual.get(key), f"{path}.{key}") for key in expected]
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        pairs = [
            (*values, f"{path}[{k}]") for k, values in enumerate(zip(expected, actual, strict=True))
        ]
    else:
        return [] if expected == actual else [path]
    return [name for pair in pairs for name in missing_paths(*pair)]


def test_grafana_has_every_key_of_the_dashboard():
    pytest.importorskip("grafana_foundation_sdk", reason="Grafana's types need Python 3.11")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    written = json.loads((DEPLOY / "grafana.json").read_text())
    read_back = json.loads(JSONEncoder().encode(Dashboard.from_json(written)))
    assert missing_paths(written, read_back) == []


def test_panels_have_all_they_need_and_do_not_overlap():
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    used = set()
    for panel in panels:
        assert panel["type"] in ("stat", "timeseries")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"]
        assert all(target["expr"] and target["refId"] for target in panel["targets"])
        position = panel["gridPos"]
        columns = range(position["x"], position["x"] + position["w"])
        rows = range(position["y"], position["y"] + position["h"])
        cells = {(column, row) for column in columns for row in rows}
        assert columns.stop <= 24
        assert not cells & used
        used |= cells


def test_every_reading_has_a_panel():
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for name in READINGS:
        assert any(f"ray_raybench_{name}{{" in query for query in queries)
    assert all('experiment=~"$experiment"' in query for query in queries)


RAY_STUB = """
import json, os, signal, sys, types
from pathlib import Path

def module(name, **content):
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(content)

class JobSubmissionClient:
    log = Path(os.environ["LOG"])
    stopped = False

    def __init__(self, dashboard):
        pass

    def submit_job(self, entrypoint, runtime_env):
        sent = {p.name: p.read_text() for p in Path(runtime_env["working_dir"]).glob("*.y*ml")}
        self.log.write_text(json.dumps([entrypoint, sent]))
        if "SIGNAL" in os.environ:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))
        return "job"

    def stop_job(self, job):
        self.stopped = True

    async def tail_job_logs(self, job):
        yield "a line"

    def get_job_info(self, job):
        status = "STOPPED" if self.stopped else "SUCCEEDED"
        return types.SimpleNamespace(status=status, driver_exit_code=0)

class AuthenticationError(Exception):
    pass

module("ray.exceptions", AuthenticationError=AuthenticationError)
module("ray.job_submission", JobSubmissionClient=JobSubmissionClient,
       JobStatus=types.SimpleNamespace(STOPPED="STOPPED"))
"""
"""Stands in for Ray's client of a dashboard; notes what was submitted."""


def submitted(folder, *words, code=0, **variables):
    """Run deploy/job.sh in a folder; return the command of the job and the YAML files sent with it."""
    stub = folder / "stub" / "ray"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text(RAY_STUB)
    environment = os.environ | {
        "PYTHONPATH": str(stub.parent), "LOG": str(folder / "log"), "TMPDIR": str(folder),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **variables,
    }  # fmt: skip
    command = [DEPLOY / "job.sh", "http://head:8265", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    assert not list(folder.glob("tmp.*"))
    return json.loads((folder / "log").read_text())


def test_a_job_takes_the_file_of_its_experiment_along(tmp_path):
    mine = tmp_path / "sub dir" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_text("# Mine?\n")
    entrypoint, sent = submitted(tmp_path, "experiment=sub dir/mine.yaml", "trials=3")
    assert entrypoint == "python -m raybench experiment=./mine.yaml trials=3"
    assert sent == {"mine.yaml": "# Mine?\n"}


def test_other_words_of_a_job_are_sent_as_they_are(tmp_path):
    entrypoint, sent = submitted(tmp_path, "experiment=smoke", "results.dir=a b")
    assert entrypoint == "python -m raybench experiment=smoke 'results.dir=a b'"
    assert sent == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_job_is_submitted_stops_it(tmp_path, number):
    submitted(tmp_path, "experiment=smoke", code=130, SIGNAL=str(int(number)))

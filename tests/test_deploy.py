"""The recipes in deploy/ are well-formed by the tools of their own trade."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

import raybench
from raybench.cluster.metrics import READINGS

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


def group(**fields):
    """A group of KubeRay's: pods of one kind, and how Ray starts there."""
    start = {"type": "object", "additionalProperties": {"type": "string"}}
    return closed(rayStartParams=start, template=closed(spec={"type": "object"}), **fields)


def closed(**fields):
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


TEXT, FLAG, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
RAY_JOB = closed(
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=closed(name=TEXT),
    spec=closed(
        entrypoint=TEXT,
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=COUNT,
        backoffLimit=COUNT,
        rayClusterSpec=closed(
            rayVersion=TEXT,
            headGroupSpec=group(),
            workerGroupSpecs={
                "type": "array",
                "items": group(
                    groupName=TEXT, replicas=COUNT, minReplicas=COUNT, maxReplicas=COUNT
                ),
            },
        ),
    ),
)
"""The fields that the manifest uses, as KubeRay's API of v1 documents them."""


def test_the_manifest_is_a_ray_job_of_pods_that_kubernetes_knows():
    manifest = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())
    jsonschema.validate(manifest, RAY_JOB)
    cluster = manifest["spec"]["rayClusterSpec"]
    for part in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **part["template"]}
        kubernetes_validate.validate(pod, "1.33", strict=True)


def test_the_image_holds_all_that_the_package_is_built_from():
    copied = {
        word
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for word in line.split()[1:-1]
    }
    text = (ROOT / "pyproject.toml").read_text()
    included = re.search(r"wheel.force-include\]\n((?:\".*\n)+)", text)[1]
    needed = set(re.findall(r'^"(\w+)"', included, re.MULTILINE))
    needed |= {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "raybench"}
    assert needed == copied
    assert all((ROOT / name).exists() for name in copied)


def lost(told, kept, path=""):
    """What of one JSON value is missing from another, by its path."""
    if isinstance(told, dict) and isinstance(kept, dict):
        pairs = [(told[key], kept.get(key), f"{path}.{key}") for key in told]
    elif isinstance(told, list) and isinstance(kept, list) and len(told) == len(kept):
        pairs = [(*both, f"{path}[{k}]") for k, both in enumerate(zip(told, kept, strict=True))]
    else:
        return [] if told == kept else [path]
    return [name for pair in pairs for name in lost(*pair)]


def test_grafana_knows_every_key_of_the_dashboard():
    pytest.importorskip("grafana_foundation_sdk", reason="Grafana's types need Python 3.11")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    told = json.loads((DEPLOY / "grafana.json").read_text())
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(told)))
    assert lost(told, kept) == []


def test_panels_are_whole_and_lie_beside_each_other():
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        assert panel["type"] in ("stat", "timeseries")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"]
        assert all(target["expr"] and target["refId"] for target in panel["targets"])
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        rows = range(place["y"], place["y"] + place["h"])
        cells = {(column, row) for column in columns for row in rows}
        assert columns.stop <= 24
        assert not cells & taken
        taken |= cells


def test_every_reading_has_a_panel():
    shown = json.loads((DEPLOY / "grafana.json").read_text())
    queries = [target["expr"] for panel in shown["panels"] for target in panel["targets"]]
    for name in READINGS:
        assert any(f"ray_raybench_{name}{{" in query for query in queries)
    assert all('experiment=~"$experiment"' in query for query in queries)

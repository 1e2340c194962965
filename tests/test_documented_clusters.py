"""The commands of docs/clusters.md, run word for word on two hosts in namespaces of this machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import hosts
import pytest

import raybench

ROOT = Path(raybench.__file__).parents[1]
PAGE = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
QUICK = (
    "engine=simulated engine.profile=p40 model=googlenet device=cpu grid.workers=2 preset=quick "
    "measure.min_s=1 measure.max_s=2 measure.look_s=0.5"
)
LONG = QUICK.replace("min_s=1", "min_s=60").replace("max_s=2", "max_s=90")


def blocks(section):
    """Return the commands of a section of the page, block by block."""
    text = re.search(rf"^## {section}\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)[1]
    return re.findall(r"^```\n(.*?)^```\n", text, re.MULTILINE | re.DOTALL)


def test_the_page_has_the_commands_that_are_run_here():
    assert [block.split()[0] for block in blocks("Join")] == ["export", "export", "raybench"]
    assert [block.split()[0] for block in blocks("Submit")] == ["ray", "deploy/job.sh"]


class Shells:
    """Shells of users who have set nothing, one on each host."""

    def __init__(self, both):
        self.hosts = both
        self._homes = {host: both.folder / host / "home" for host in "ab"}
        for home in self._homes.values():
            home.mkdir()
        self.environment = {
            name: value for name, value in both.variables.items() if not name.startswith("RAY_")
        }

    def command(self, host, script):
        inside = ["env", f"HOME={self._homes[host]}", "bash", "-ec", f"cd {ROOT}\n{script}"]
        return self.hosts.command(host, *inside)

    def run(self, host, script, code=0):
        done = subprocess.run(
            self.command(host, script),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=1200,
        )
        assert done.returncode == code, f"{script}\n{done.stdout}{done.stderr}"
        return done

    def rows(self, name):
        return raybench.load(str(self.hosts.folder / name)).to_pylist()

    def short(self, name, command, words=QUICK):
        """Return a documented command with words that shorten it, and another folder for rows."""
        kept = " ".join(w for w in command.split() if not w.startswith("results.dir="))
        return f"{kept} {words} results.dir={self.hosts.folder / name}"


@pytest.mark.ray
@pytest.mark.hosts
@pytest.mark.slow
def test_two_machines_join_and_run_and_take_jobs_as_the_page_says():
    reason = hosts.missing()
    if reason is not None:
        pytest.skip(reason)
    (first, other, run), (submit, recipe) = blocks("Join"), blocks("Submit")
    with hosts.two_hosts() as both:
        shells = Shells(both)
        token = shells.run("a", first).stdout.split()[-1]
        shells.run("b", other.replace("TOKEN=TOKEN", f"TOKEN={token}"))

        shells.run("a", shells.short("run", run))
        export = f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN={token}\n"
        shells.run("a", export + shells.short("submit", submit))
        done = shells.run("a", export + shells.short("job", recipe))
        for name in ("run", "submit", "job"):
            (row,) = shells.rows(name)
            assert (row["status"], row["n_nodes"]) == ("ok", 2), name
        assert done.stderr == ""
        assert done.stdout.startswith("scaling: ")
        assert "\x1b" not in done.stdout

        refusals(shells, recipe)
        interrupted_job(shells, export, recipe)


def refusals(shells, recipe):
    """A job that cannot be submitted, or asks for what does not exist, says so in one line."""
    wrong = shells.run("a", f"RAY_AUTH_TOKEN={'a' * 64} {shells.short('x', recipe)}", code=2)
    none = shells.run("a", shells.short("x", recipe), code=2)
    closed = shells.run("a", shells.short("x", recipe).replace("8265", "8264"), code=2)
    for done, text in ((wrong, "Set RAY_AUTH_TOKEN"), (none, "Set RAY_AUTH"), (closed, "No job")):
        assert len(done.stderr.splitlines()) == 1
        assert text in done.stderr


def interrupted_job(shells, export, recipe):
    """Ctrl-C ends the job as it ends a run: with its rows and exit code 130."""
    command = shells.command("a", export + shells.short("stopped", recipe, LONG))
    with subprocess.Popen(
        command, env=shells.environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as job:
        for line in job.stdout:
            if line.startswith("[1/1]"):
                break
        os.killpg(job.pid, signal.SIGINT)  # as a terminal does
        output = job.stdout.read()
    assert "interrupted; rows that were written are kept" in output
    assert job.returncode == 130

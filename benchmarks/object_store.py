"""Run a grid with rows on s3:// (moto on loopback): kill it, resume it, read it.

python benchmarks/object_store.py
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

import raybench

ROOT = "s3://bucket/here/results"
WORDS = (
    "experiment=scaling", "engine=simulated", "engine.profile=p40", "model=googlenet",
    "cluster.gpus=2", "cluster.dashboard=false", "grid.workers=[1,2]", "batch_size=[32,64,128]",
    "preset=quick", "measure.min_s=2", "measure.max_s=3", "measure.look_s=0.5",
    f"results.dir={ROOT}",
)  # fmt: skip
POINTS, KILLED_AFTER = 6, 2


def start() -> subprocess.Popen[str]:
    """Start raybench on this machine with its output on a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "raybench", *WORDS],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def main() -> int:
    """Return 0 when nothing was lost and nothing measured twice."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ.update(
        AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1",
        AWS_ENDPOINT_URL=f"http://{host}:{port}", AWS_EC2_METADATA_DISABLED="true",
    )  # fmt: skip
    boto3.client("s3").create_bucket(Bucket="bucket")
    first = start()
    assert first.stdout is not None
    printed = 0
    for line in first.stdout:
        printed += "items/s" in line
        if printed == KILLED_AFTER:
            break
    first.kill()
    first.wait()
    kept = raybench.load(ROOT)
    print(f"killed after {printed} rows were printed: {kept.num_rows} are stored")
    began = time.monotonic()
    second = start()
    said, _ = second.communicate()
    rows = raybench.load(ROOT)
    points = set(rows["point_id"].to_pylist())
    again = said.count("kept (ok)")
    print(f"resumed: exit code {second.returncode}, {again} kept, {rows.num_rows} rows of "
          f"{len(points)} points, {time.monotonic() - began:.0f} s")  # fmt: skip
    shown = subprocess.run(
        [sys.executable, "-m", "raybench", "show", ROOT], capture_output=True, text=True
    )
    print(shown.stdout or shown.stderr)
    read = read_back()
    server.stop()
    complete = kept.num_rows >= printed and rows.num_rows == len(points) == POINTS
    return 0 if complete and read and second.returncode == shown.returncode == 0 else 1


def read_back() -> bool:
    """Return whether `report` and `compare` read the rows from the store."""
    region = f"{ROOT}?region=us-east-1"
    with tempfile.TemporaryDirectory() as folder:
        codes = []
        for words in (
            ("report", ROOT),
            ("report", region, "out=named", "title=From a store"),
            ("compare", ROOT, region),
            ("compare", f"{ROOT}:batch_size=32", f"{region}:batch_size=64", "by=batch_size"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "raybench", *words],
                cwd=folder, capture_output=True, text=True,
            )  # fmt: skip
            codes.append(done.returncode)
            lines = (done.stdout + done.stderr).strip().splitlines()
            print(f"{' '.join(words)}: exit code {done.returncode}")
            print("\n".join(f"    {line}" for line in lines[-4:]))
        pages = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.html"))
    print(f"pages: {', '.join(pages)}")
    return codes[:3] == [0, 0, 0] and codes[3] in (0, 1) and len(pages) == 2


if __name__ == "__main__":
    sys.exit(main())

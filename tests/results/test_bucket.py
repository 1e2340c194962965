"""The guarantees of a results folder, in an object store: moto's server speaks S3 on loopback."""

import signal
import subprocess
import sys
import threading
from collections import Counter

import boto3
import pytest
from moto.server import ThreadedMotoServer

import raybench
from raybench.cli import main
from raybench.cli.compare import RowSelection, parse_side
from raybench.errors import ResultsError
from raybench.results.load import compact
from raybench.results.store import Store


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def root(endpoint, monkeypatch, request):
    """A bucket of its own, as the address of a results folder in it."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    name = f"b{abs(hash(request.node.name))}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=name)
    return f"s3://{name}/somewhere/results"


def objects(root):
    bucket, _, below = root.removeprefix("s3://").partition("/")
    found = boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
    return [entry["Key"].removeprefix(f"{below}/") for entry in found]


def test_rows_come_back_whole_and_finals_know_them(root, write):
    run = Store(root).start_run({"experiment": "x"})
    run.write_environment([{"environment_id": "e1", "hostname": "h"}])
    write(run, "p1")
    write(run, "p2", status="node_died", items_per_s=None)
    run.finish("finished")
    assert set(Store(root).finals()) == {("p1", 0, "e1"), ("p2", 0, "e1")}
    assert raybench.load(root)["items_per_s"].to_pylist() == [1234.5, None]
    assert raybench.load(root, "blocks").num_rows == 4
    assert raybench.load(root, "environment")["hostname"].to_pylist() == ["h"]
    assert f"runs/{run.id}/manifest.json" in objects(root)


def test_a_trial_that_was_cut_off_does_not_count(root, store, write, monkeypatch):
    run = store.start_run({})
    write(run, "whole")
    put = store.files.write

    def power_cut(name, data):
        if name.startswith("trials/"):
            raise KeyboardInterrupt
        put(name, data)

    monkeypatch.setattr(store.files, "write", power_cut)
    with pytest.raises(KeyboardInterrupt):
        write(run, "cut")
    assert f"blocks/{run.id}/cut-t0.parquet" in objects(root)
    assert set(raybench.load(root, "blocks")["point_id"].to_pylist()) == {"whole"}


def test_a_writer_that_is_killed_leaves_only_whole_trials(root):
    words = f"""
import sys
from raybench.results.store import Store
run = Store({root!r}).start_run({{}})
for k in range(10_000):
    rows = [{{"worker": 0, "block": b, "phase": "measure", "items": 1}} for b in range(500)]
    row = {{"environment_id": "e", "status": "ok", "verdict": "stable", "workers": 1}}
    run.write_point(f"p{{k}}", 0, trials=row, workers=[{{"worker": 0}}], blocks=rows)
    print(k, flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True)
    printed = [int(writer.stdout.readline()) for _ in range(10)]
    writer.send_signal(signal.SIGKILL)
    printed += [int(line) for line in writer.communicate()[0].splitlines()]
    workers = Counter(raybench.load(root, "workers")["point_id"].to_pylist())
    blocks = Counter(raybench.load(root, "blocks")["point_id"].to_pylist())
    kept = {point for point, *_ in Store(root).finals()}
    assert set(workers.values()) == {1}
    assert set(blocks.values()) == {500}
    # what it sent last may arrive while this reads
    assert {f"p{k}" for k in printed} <= set(workers) <= set(blocks) <= kept


def test_two_writers_do_not_meet(root, write):
    Store(root)

    def work(name):
        run = Store(root).start_run({})
        for trial in range(5):
            write(run, name, trial)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("p1", "p2", "p3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raybench.load(root).num_rows == 15


def test_a_compact_file_stands_for_the_many(root, store, write):
    run = store.start_run({})
    for trial in range(3):
        write(run, "p1", trial)
    compact(root)
    write(store.start_run({}), "p2")
    assert raybench.load(root).num_rows == 4
    assert raybench.load(root, "blocks").num_rows == 8


def test_what_is_not_a_results_folder_is_refused(root, endpoint, monkeypatch):
    bucket = root.removeprefix("s3://").partition("/")[0]
    with pytest.raises(ResultsError, match="does not exist"):
        raybench.load(root)
    with pytest.raises(ResultsError, match="no bucket 'nobodys-bucket'"):
        Store("s3://nobodys-bucket/results")
    boto3.client("s3").put_object(Bucket=bucket, Key="somewhere/results/novel.txt", Body=b"x")
    with pytest.raises(ResultsError, match="holds something else"):
        Store(root)
    with pytest.raises(ResultsError, match="go to a folder, to s3:// or to gs://"):
        Store("hdfs://there/results")


def test_a_store_that_cannot_be_reached_is_one_sentence(root, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(ResultsError, match=r"Results folder 's3://.*cannot be read") as caught:
        Store(root)
    assert "\n" not in str(caught.value)


def test_a_report_of_a_bucket_is_written_here_and_sides_are_compared_where_they_are(
    root, store, write, tmp_path, monkeypatch, capsys
):
    write(store.start_run({}), "p1")
    monkeypatch.chdir(tmp_path)
    region = f"{root}?region=us-east-1"
    assert main.main(["report", region, "title=From a store"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert "From a store" in (tmp_path / "report" / "report.html").read_text()
    assert main.main(["report", root, f"out={root}/report"]) == 2
    assert "is no folder of this machine" in capsys.readouterr().err
    assert main.main(["compare", root, region]) == 0


def test_an_address_with_options_is_no_filter():
    plain, options = "s3://b/r", "s3://b/r?region=eu-west-1&endpoint_override=127.0.0.1:9000&a=b"
    for address in (plain, options):
        assert parse_side(address, "usual") == RowSelection(address, address, ())
        side = parse_side(f"{address}:precision=int8", "usual")
        assert (side.folder, side.filters) == (address, (("precision", "int8"),))

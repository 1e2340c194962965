#!/usr/bin/env bash
# Run raybench as a Ray job, from any machine that reaches the cluster's dashboard:
#   deploy/job.sh http://HEAD:8265 experiment=scaling results.dir=s3://bucket/results
# The nodes need raybench's requirements; raybench's own code is sent from this checkout, by a Python
# with Ray, and so is the file of experiment=FILE.yaml. A cluster with tokens needs RAY_AUTH_TOKEN, or the name of its file in RAY_AUTH_TOKEN_PATH.
# Ctrl-C ends the job; the exit code is raybench's.
set -euo pipefail
if (($# < 2)); then
  echo "usage: $0 http://HEAD:8265 experiment=NAME [key=value ...]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")/.." && pwd)
package=$(mktemp -d)
trap 'rm -rf "$package"' EXIT
cp -r "$here/raybench" "$here/conf" "$here/experiments" "$package/"
words=()
for word in "${@:2}"; do
  file=${word#experiment=}
  if [[ "$word" == experiment=*.y*ml && -f "$file" ]]; then
    cp "$file" "$package/"
    word=experiment=./$(basename "$file")
  fi
  words+=("$word")
done
if [[ -n "${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-}" ]]; then
  export RAY_AUTH_MODE="${RAY_AUTH_MODE:-token}"
fi
trap '' INT # Python stops the job
python - "$package" "$1" "${words[@]}" << 'END'
import asyncio
import logging
import shlex
import signal
import sys

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

package, dashboard, *words = sys.argv[1:]
ENDING = (signal.SIGINT, signal.SIGTERM)
RAYS_OWN = ("job_manager.py:", "Running entrypoint for job ")
logging.disable(logging.WARNING)
signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is a job to stop


def refuse(reason):
    print(f"{dashboard}: {reason}", file=sys.stderr)
    sys.exit(2)


try:
    client = JobSubmissionClient(dashboard)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # one that comes meanwhile stops the job
    job = client.submit_job(
        entrypoint=shlex.join(["python", "-m", "raybench", *words]),
        runtime_env={"working_dir": package},
    )
except AuthenticationError:
    refuse("Set RAY_AUTH_TOKEN to the token that ray get-auth-token prints on the head node.")
except Exception as error:
    refuse(f"No job can be submitted. {' '.join(str(error).split())[:300]}")


def stop(*_):
    client.stop_job(job)  # raybench keeps its rows and ends


async def follow():
    async for text in client.tail_job_logs(job):
        for line in text.splitlines(keepends=True):
            if not any(own in line for own in RAYS_OWN):
                print(line, end="", flush=True)


for number in ENDING:
    signal.signal(number, stop)
signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
asyncio.run(follow())
info = client.get_job_info(job)
code = 130 if info.status == JobStatus.STOPPED else info.driver_exit_code
sys.exit(1 if code is None else code)
END

#!/usr/bin/env bash
# Run raybench as a Ray job, from any machine that reaches the cluster's dashboard:
#   deploy/job.sh http://HEAD:8265 experiment=scaling results.dir=s3://bucket/results
# The nodes need raybench's requirements; raybench's own code is sent from this checkout.
# A cluster with tokens needs RAY_AUTH_MODE=token and RAY_AUTH_TOKEN set here.
set -euo pipefail
if (($# < 2)); then
  echo "usage: $0 http://HEAD:8265 experiment=NAME [key=value ...]" >&2
  exit 2
fi
dashboard=$1
shift
here=$(cd "$(dirname "$0")/.." && pwd)
package=$(mktemp -d)
trap 'rm -rf "$package"' EXIT
cp -r "$here/raybench" "$here/conf" "$here/experiments" "$package/"
ray job submit --address="$dashboard" --working-dir="$package" -- \
  python -m raybench "$@"

#!/usr/bin/env bash
# Everything that is to be known of raybench on one NVIDIA GPU: checks, the batch ladder, overheads,
# memory, telemetry, stability. Installs nothing; needs a Python that has raybench's dependencies,
# TensorRT and cuda-bindings. Ends within 8 minutes, prints its tables last, and goes on where it
# stopped when it is started again with the same folder.
#
#   benchmarks/gpu.sh [RESULTS] [more arguments of gpu.py]
#   PYTHON=python3.10 benchmarks/gpu.sh results/gpu --budget 470
set -euo pipefail
cd "$(dirname "$0")/.."
results=${1:-results/gpu}
shift || true
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" benchmarks/gpu.py "$results" "$@"

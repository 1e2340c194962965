"""Definition of every column that raybench stores: name, type, unit and meaning.

Columns are only ever added; a changed unit or meaning is a new name. Unknown is null, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from raybench.results import load_columns as of_load
from raybench.results.decoder_columns import DECODER
from raybench.results.environment_columns import ENVIRONMENT
from raybench.results.hardware_columns import (
    ACTIVITY,
    BLOCK_ACTIVITY,
    ENERGY_BOUNDS,
    HARDWARE,
    HEALTH,
    HOST,
    OUTPUTS,
)
from raybench.results.soak_columns import DRIFT, EVENT, LOADED, LOADED_WORKER, SOAK
from raybench.results.traffic_columns import TRAFFIC

# A line is `name type unit description`; the unit is `-` where there is none. [reserved] marks a
# column that raybench does not use yet: null, or the same in every row.
_KEYS = """
run_id                 string    -        ULID of the run that wrote the row; sorts by start time
point_id               string    -        hash of everything that affects the measurement of the point
environment_id         string    -        hash of devices, driver, libraries and CPU model
trial                  int16     -        repeat of the point in fresh workers, from 0
schema_version         int16     -        version of this schema
"""
_TRIAL = """
experiment             string    -        name of the experiment
point_index            int32     -        place of the point in the plan
started_at             timestamp UTC      start of the trial
ended_at               timestamp UTC      end of the trial
wall_s                 float64   s        from start to end, with build and warm-up
tags                   map       -        labels that the user gave the run
config_json            string    JSON     the point and its settings, resolved
method_version         int16     -        rises when an estimator or a meaning changes
preset                 string    -        name of the measuring preset
seed                   int64     -        seed of batches and order
engine                 string    -        engine that ran the model
engine_version         string    -        version of the engine's library
engine_options         string    JSON     options of the engine, canonical
model                  string    -        name of the model
model_identity         string    -        zoo recipe and seed, or hash of the file
model_sha256           string    -        hash of the graph that ran, in its precision
precision              string    -        precision of the graph
dialect                string    -        how int8 is written: s8s8, u8s8, or u8s7 without VNNI
parameters             int64     -        weights of the model
macs_per_item          int64     MAC/item multiply-accumulates of one item
batch_size             int32     items    items in a batch of one worker
input_shape            string    -        shapes of the inputs
load_mode              string    -        stream, latency or open
inflight               int16     batches  most batches submitted and not collected, one worker
streams                int16     -        device streams of one worker
transfers              bool      -        inputs and outputs cross the bus inside the timed stream
workers                int16     -        workers, one device each
n_nodes                int16     -        nodes that held workers
workers_per_node       int16     -        most workers on one node
scaling_mode           string    -        [reserved] weak, strong or none
device                 string    -        product name of the devices, or mixed
device_kind            string    -        gpu or cpu
memory_limit_bytes     int64     B        the device was treated as no larger than this
simulated              bool      -        timings come from a model, not from hardware
nice                   int16     -        niceness of the worker processes
offered_items_per_s    float64   items/s  open loop: rate of the arrivals that was asked for, all workers
slo_ms                 float64   ms       open loop: bound on the latency
status                 string    -        closed list, see STATUSES
reason                 string    -        one sentence with what to do; null when ok
oom_stage              string    -        where memory ran out: build, load, input, run or the phase
oom_requested_bytes    int64     B        what the engine then asked for; null if it did not report it
attempts               int16     -        tries until this status
fresh_processes        bool      -        every worker's process was new for this trial
verdict                string    -        stable, unverified or unstable; null unless ok
flags                  strings   -        what speaks against the measurement
advice                 string    -        how to get a better row
notes                  strings   -        what else is to be known, a sentence each
fidelity_sqnr_db       float64   dB       signal to quantisation noise of the outputs against fp32
fidelity_cosine        float64   1        cosine of the outputs against fp32
quantised_macs_frac    float64   1        share of the multiply-accumulates computed in 8 bits
reduced_ops            strings   -        ops computed below fp32, with their types
kept_fp32_ops          strings   -        ops of a graph in fp16 or int8_fp16 that stay in fp32 for their range
calibration            string    -        how the ranges of int8 activations were chosen
rounded_sqnr_db        float64   dB       fp16, int8_fp16: fidelity on the CPU with every half tensor rounded
inputs                 string    -        synthetic, or file, number of items and hash of real inputs
"""
_THROUGHPUT = """
items_per_s            float64   items/s  items in the window / length of the window
items_per_s_lo         float64   items/s  lower bound within the trial
items_per_s_hi         float64   items/s  upper bound within the trial
rel_half_width         float64   1        half the interval / items_per_s; bounds: items_per_s x or / exp of it
ci_level               float64   1        confidence of every interval in the row
ci_method              string    -        estimator of the interval
n_blocks               int32     -        blocks in the window
block_s                float64   s        length of a block
n_eff                  float64   -        effective number of independent blocks
rho1                   float64   1        lag-1 autocorrelation of block rates
block_cv               float64   1        standard deviation / mean of block rates
items                  int64     items    items in the window
batches                int64     -        batches in the window
window_s               float64   s        length of the window common to all workers
"""
_AGGREGATE = """
items_per_s_per_worker float64   items/s  items_per_s / workers: of a device, with all its instances
imbalance              float64   1        fastest device's rate / slowest device's rate - 1
slowest_worker         int16     -        number of the slowest worker, from 0
start_skew_ms          float64   ms       first to last worker at the start of the stream
end_skew_ms            float64   ms       first to last worker at the end of the stream
clock_bound_us         float64   us       worst bound on a worker's clock against the driver's
clock_skew             float64   1        move of a clock against the driver's beyond the bounds / time; worst
"""
_STALLS = """
stalls                 int32     -        gaps of 5 batches and 20 ms or more without a completion
stalled_workers        int16     -        workers with a stall in the window
stalled_s              float64   s        time of the window in stalls, sum over the workers
longest_stall_s        float64   s        length of the longest stall; null without one
longest_stall_at_s     float64   s        its start, from the start of the window
longest_stall_worker   int16     -        number of its worker, from 0
items_per_s_without_stalls     float64 items/s  items in the window / time of the window not lost in stalls
rel_half_width_without_stalls  float64 1        half the interval of blocks without a stall / their mean
"""
_STABILITY = """
warmup_s               float64   s        warm-up thrown away before the window
warmup_batches         int64     -        batches of warm-up
warmup_converged       bool      -        the two windows of warm-up agreed
looks                  int16     -        checks of the driver until the stop
step_rel               float64   1        largest shift of the mean / mean
step_z                 float64   -        its z value
drift_rel              float64   1        linear change end to end / mean
drift_z                float64   -        its z value
outlier_blocks         int32     -        blocks beyond 3 IQR or 10 MAD; kept
outlier_batches        int64     -        batches beyond 3 IQR or 10 MAD; kept
"""
_LATENCY = """
latency_n              int64     -        latencies behind the quantiles
latency_mean_ms        float64   ms       mean
latency_std_ms         float64   ms       standard deviation
latency_p50_ms         float64   ms       median
latency_p50_lo_ms      float64   ms       its lower bound
latency_p50_hi_ms      float64   ms       its upper bound
latency_p90_ms         float64   ms       90 % quantile
latency_p90_lo_ms      float64   ms       its lower bound
latency_p90_hi_ms      float64   ms       its upper bound
latency_p99_ms         float64   ms       99 % quantile
latency_p99_lo_ms      float64   ms       its lower bound
latency_p99_hi_ms      float64   ms       its upper bound
latency_p999_ms        float64   ms       99.9 % quantile
latency_p999_lo_ms     float64   ms       its lower bound
latency_p999_hi_ms     float64   ms       its upper bound
latency_max_ms         float64   ms       largest
latency_basis          string    -        batch, or request in open loop
slo_met                bool      -        open loop: the bound was kept; null where the sample does not say
slo_violation_frac     float64   1        open loop: part of the items above the bound
"""
_DEVICE_TIME = """
enqueue_ms_mean        float64   ms       host time to submit a batch, mean
enqueue_ms_median      float64   ms       host time to submit a batch, median
h2d_ms_median          float64   ms       device time of the copy in, median
compute_ms_median      float64   ms       device time of the compute, median
d2h_ms_median          float64   ms       device time of the copy out, median
compute_cov            float64   1        standard deviation / mean of the compute time; least even worker
device_items_per_s     float64   items/s  items / device compute time; null in trials with instances
host_idle_frac         float64   1        1 - device time / wall time; null in trials with instances
harness_us_per_batch   float64   us       time of raybench's own loop, one batch
"""
_EFFICIENCY = """
gflops_per_item        float64   GFLOP    2 x MAC of one item; in int8 these are integer operations
achieved_tflops        float64   TFLOP/s  items_per_s x gflops_per_item / 1000; in int8 these are TOP/s, of integer operations
peak_tflops            float64   TFLOP/s  [reserved] dense peak of the devices in this precision
mfu                    float64   1        [reserved] achieved / peak
mfu_clock              float64   1        [reserved] achieved / peak at the measured clock
usd_per_gpu_hour       float64   USD/h    [reserved] price of one device
usd_per_million_items  float64   USD      [reserved] price of a million items
"""
_COLD_START = """
build_s                float64   s        compiling or building for the device
build_cache_hit        bool      -        the build came from a cache
load_s                 float64   s        from built to ready
first_infer_ms         float64   ms       first batch
engine_bytes           int64     B        size of the built plan
engine_sha256          string    -        hash of the built plan
"""
_CONTROL_GROUPS = """
cpu_throttled_frac     float64   1        share of the window for which a CPU quota held busy CPUs back; worst
cpu_quota_cores        float64   cores    CPU time that the control groups of a worker allow; least; null without a quota
"""
_WORKER = """
worker                 int16     -        number of the worker, from 0
node_id                string    -        node in the Ray cluster
hostname               string    -        name of the host
device                 string    -        product name of the device
gpu_index              int16     -        the GPU's number on its host
gpu_uuid               string    -        the GPU's own UUID
gpu_name               string    -        product name of the GPU
pci_bus_id             string    -        PCI address of the GPU
numa_node              int16     -        NUMA node of the device
pid                    int32     -        process
cpu_affinity           string    -        CPUs that the process may use
threads                int16     -        CPU threads that compute
nice                   int16     -        niceness of the process
env_allowlist          map       -        its environment variables that affect the measurement
notes                  strings   -        what else is to be known, a sentence each
clock_offset_us        float64   us       worker's clock - driver's clock, before the stream
clock_offset_end_us    float64   us       the same after the stream
clock_rtt_us           float64   us       least round trip of the pings before the stream
clock_bound_us         float64   us       bound on the error of both offsets
clock_skew             float64   1        change of the offset beyond both bounds / time between
latency_hist_edges_ms  floats    ms       edges of logarithmic latency buckets
latency_hist_counts    ints      -        latencies in each bucket
"""
_BLOCK = """
worker                 int16     -        number of the worker, from 0
block                  int32     -        number of the block, from 0; a stretched block is several
phase                  string    -        warmup or measure
t_start_ns             int64     ns       start on the driver's monotonic clock
t_end_ns               int64     ns       end on the driver's monotonic clock
items                  int64     items    items completed
batches                int32     -        batches completed
latency_mean_ms        float32   ms       mean latency of the batches
latency_max_ms         float32   ms       largest latency of the batches
gpu_busy_frac          float32   1        device time / wall time
sm_clock_mhz           float32   MHz      SM clock
temp_c                 float32   degC     temperature
power_w                float32   W        power
energy_mj              int64     mJ       energy
throttle_mask          int64     -        NVML clocks-event reasons, or-ed
stalled_s              float32   s        time of the block in stalls
"""
_SAMPLE = """
worker                 int16     -        number of the worker, from 0
seq                    int32     -        number of the batch in the stream
t_done_ns              int64     ns       completion on the worker's monotonic clock
latency_ns             int64     ns       completion - submission
batch_items            int32     items    items in the batch
arrival_ns             int64     ns       open loop: intended arrival of the first item of the batch
"""
_LAYER = """
layer                  int16     -        place in the order of execution, from 0
name                   string    -        the library's name; a fused layer names several nodes
kind                   string    -        what it computes, in the library's terms
time_ms                float64   ms       median over the batches of a profiling run of its own
time_frac              float64   1        time_ms / sum of all layers
info_json              string    JSON     what else the library reports of it
"""

_TABLES = {
    "trials": (
        _KEYS + _TRIAL + _THROUGHPUT + _AGGREGATE + _STABILITY + _LATENCY,
        _DEVICE_TIME
        + HARDWARE
        + HOST
        + _EFFICIENCY
        + _COLD_START
        + _CONTROL_GROUPS
        + _STALLS
        + ENERGY_BOUNDS
        + ACTIVITY
        + HEALTH
        + of_load.OPEN_LOOP
        + of_load.P95
        + of_load.PACKING
        + of_load.PARTS
        + of_load.POWER
        + of_load.BUILDS
        + DRIFT
        + LOADED
        + TRAFFIC
        + DECODER
        + of_load.PIPELINE,
    ),
    "workers": (
        _KEYS + _WORKER + _THROUGHPUT + _STABILITY + _LATENCY,
        _DEVICE_TIME
        + HARDWARE
        + HOST
        + _COLD_START
        + _CONTROL_GROUPS
        + _STALLS
        + ENERGY_BOUNDS
        + ACTIVITY
        + HEALTH
        + of_load.P95
        + of_load.PACKED_WORKER
        + OUTPUTS
        + of_load.POWERED_WORKER
        + DRIFT
        + LOADED_WORKER,
    ),
    "blocks": (_KEYS, _BLOCK + BLOCK_ACTIVITY),
    "samples": (_KEYS, _SAMPLE),
    "layers": (_KEYS, _LAYER),
    "environment": (ENVIRONMENT,),
    "soak": (_KEYS, SOAK, HARDWARE + HOST + ENERGY_BOUNDS + ACTIVITY + HEALTH + _CONTROL_GROUPS),
    "events": (_KEYS, EVENT),
}
_TYPES = {
    "string": pa.string(),
    "bool": pa.bool_(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "strings": pa.list_(pa.string()),
    "floats": pa.list_(pa.float64()),
    "ints": pa.list_(pa.int64()),
    "map": pa.map_(pa.string(), pa.string()),
}


_RESERVED = "[reserved] "


@dataclass(frozen=True)
class ColumnDefinition:
    """A column of a table.

    Attributes:
        unit: empty where there is none.
        description: what a value means, in one line.
        reserved: whether raybench does not use it yet, so that it is null or constant.
    """

    name: str
    type: pa.DataType
    unit: str
    description: str
    reserved: bool = False


def _definition(line: str) -> ColumnDefinition:
    name, kind, unit, description = line.split(maxsplit=3)
    text = description.removeprefix(_RESERVED)
    unit = "" if unit == "-" else unit
    return ColumnDefinition(name, _TYPES[kind], unit, text, reserved=text != description)


COLUMNS: dict[str, tuple[ColumnDefinition, ...]] = {
    table: tuple(_definition(line) for text in texts for line in text.splitlines() if line)
    for table, texts in _TABLES.items()
}
"""Definition of every column, by table."""

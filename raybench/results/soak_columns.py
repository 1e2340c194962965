"""Columns of soaks and cold starts; lines as in `columns.py`."""

from __future__ import annotations

DRIFT = """
drift_rel_lo           float64   1        lower end of the 95 % interval of drift_rel
drift_rel_hi           float64   1        its upper end
"""
LOADED = """
page_cache             string    -        cold start: cold or warm, as the files were found before loading; null if unknown or not asked for
ready_s_p50            float64   s        begin of loading to the end of the first batch, median over the workers
ready_s_max            float64   s        the same, slowest worker
build_s_p50            float64   s        compiling or building, median over the workers
build_s_max            float64   s        the same, slowest worker
load_s_p50             float64   s        from built to ready, median over the workers
load_s_max             float64   s        the same, slowest worker
first_infer_ms_p50     float64   ms       first batch, median over the workers
first_infer_ms_max     float64   ms       the same, slowest worker
load_late_ms           float64   ms       cold start: common instant to the begin of loading; latest worker
"""
LOADED_WORKER = """
page_cache             string    -        cold start: cold or warm, as the files were found before loading; null if unknown or not asked for
ready_s                float64   s        begin of loading to the end of the first batch
load_late_ms           float64   ms       cold start: common instant to the begin of loading
"""
_PLACE = """
worker                 int16     -        number of the worker, from 0
interval               int32     -        number of the interval, from 0
experiment             string    -        name of the experiment
model                  string    -        name of the model
precision              string    -        precision of the graph
engine                 string    -        engine that ran the model
batch_size             int32     items    items in a batch of one worker
workers                int16     -        workers, one device each
hostname               string    -        name of the host
device                 string    -        product name of the device
gpu_uuid               string    -        the GPU's own UUID
"""
SOAK = (
    _PLACE
    + """
started_at             timestamp UTC      start of the interval, by the driver's clock
ended_at               timestamp UTC      its end
t_start_s              float64   s        its start, from the start of the window
window_s               float64   s        its length, from completion to completion
items_per_s            float64   items/s  items / window_s
items_per_s_lo         float64   items/s  lower bound from its blocks
items_per_s_hi         float64   items/s  upper bound from its blocks
n_blocks               int32     -        blocks in it
ratio_to_first         float64   1        items_per_s / that of interval 0 of the worker
items                  int64     items    items completed
batches                int64     -        batches completed
latency_n              int64     -        latencies behind the quantiles
latency_basis          string    -        batch
latency_mean_ms        float64   ms       mean
latency_std_ms         float64   ms       standard deviation
latency_p50_ms         float64   ms       median, within 0.5 %
latency_p90_ms         float64   ms       90 % quantile, within 0.5 %
latency_p95_ms         float64   ms       95 % quantile, within 0.5 %
latency_p99_ms         float64   ms       99 % quantile, within 0.5 %
latency_p999_ms        float64   ms       99.9 % quantile, within 0.5 %
latency_max_ms         float64   ms       largest
stalls                 int32     -        gaps of 5 batches and 20 ms or more without a completion
stalled_s              float64   s        time of the interval in stalls
longest_stall_s        float64   s        length of the longest stall; null without one
longest_stall_at_s     float64   s        its start, from the start of the window
driver_rss_mib         float64   MiB      memory of the driver's process at the end of the interval
"""
)
"""One row for each worker and interval; the columns of device and host follow."""
EVENT = (
    _PLACE
    + """
at                     timestamp UTC      when it was seen, by the driver's clock
t_s                    float64   s        the same from the start of the window; negative in warm-up
kind                   string    -        xid, ecc_uncorrected, ecc_corrected, rows_remapped, throttled_power, throttled_thermal, throttled_hw, core_heat, stall or ended
value                  float64   -        XID code, number of errors or rows, share of the block's samples, or seconds of a stall; null for ended
text                   string    -        a sentence with what it is
"""
)

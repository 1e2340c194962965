"""Columns of the conditions that a point is measured under; lines as in `columns.py`."""

from __future__ import annotations

OPEN_LOOP = """
load                   string    -        closed, poisson(RATE), constant(RATE) or a share of capacity
arrivals               string    -        closed, poisson or constant
arrived_items_per_s    float64   items/s  open loop: items that arrived in the window / its length
balancer               string    -        open loop: split: an equal share of the rate and a queue each; shared: one queue for all
max_wait_ms            float64   ms       open loop: longest wait for others to fill a batch
batch_items_mean       float64   items    open loop: items in a batch that had arrived, mean
late_arrivals_frac     float64   1        open loop: share of batches submitted over 0.1 ms late
queue_ms_p50           float64   ms       open loop: arrival to submission, median
queue_ms_p99           float64   ms       open loop: arrival to submission, 99 % quantile
slo_percentile         float64   %        open loop: percentile that the bound is for
"""
P95 = """
latency_p95_ms         float64   ms       95 % quantile
latency_p95_lo_ms      float64   ms       its lower bound
latency_p95_hi_ms      float64   ms       its upper bound
"""
PACKING = """
instances              int16     -        engines on each device, each in a worker of its own
instance_min_max_ratio float64   1        slowest / fastest instance of a device; worst device; null with one instance
mps                    bool      -        CUDA's Multi-Process Service was on; null on cores and if unknown
mig_profile            string    -        profile of the MIG slices that are the devices; null for whole GPUs
"""
BUILDS = """
build                  int16     -        which of several separately built plans, from 0; null where a plan built again is the same
first_build_id         string    -        point_id of the same point with the first build
"""
PARTS = """
batch_computed_mean    float64   items    open loop: items computed in a batch with its padding, mean; null if the engine does not say
"""
POWER = """
power_limit_w          float64   W        power limit that each device was set to for the point; null where it was left as it was
"""
POWERED_WORKER = """
power_limit_w          float64   W        power limit of the device in force, as it was read back; null if unknown
"""
PIPELINE = """
pipeline               string    -        what makes the inputs inside the timed stream: none, or jpeg
cores                  int16     cores    cores that make the inputs of each device; null without a pipeline
decoder                string    -        library that decoded the images, with its version
decoder_threads        int16     -        threads of each device that decoded, one a core
image_bytes_mean       float64   B        encoded size of an image, mean
decoded_per_s_per_core float64   items/s  images decoded, scaled and written into the batch by a core while it works
input_wait_frac        float64   1        share of the window in which a device had nothing to do for lack of input, mean
engine_wait_frac       float64   1        share of the decoding cores' time in which they waited for the engine
"""
PACKED_WORKER = """
instance               int16     -        number of the worker among those of its device, from 0
mps                    bool      -        CUDA's Multi-Process Service was on; null on cores and if unknown
mig_profile            string    -        profile of the MIG slice that is its device; null for a whole GPU
"""

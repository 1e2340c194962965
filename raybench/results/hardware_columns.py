"""Columns read from the hardware and the host beside the stream, in the lines of `columns`."""

HARDWARE = """
energy_j               float64   J        of the boards over the window
items_per_j            float64   items/J  items / energy_j
j_per_item             float64   J/item   energy_j / items
avg_power_w            float64   W        energy_j / window_s
energy_source          string    -        counter, integral, none or simulated
energy_check_rel       float64   1        integral of power / counter - 1
sm_clock_mhz_mean      float64   MHz      SM clock, mean
sm_clock_mhz_min       float64   MHz      SM clock, lowest
mem_clock_mhz_mean     float64   MHz      memory clock, mean
temp_c_start           float64   degC     temperature at the start of the window
temp_c_end             float64   degC     temperature at the end of the window
temp_c_max             float64   degC     highest temperature
gpu_util_mean          float64   1        utilisation as the driver reports it
throttle_power_frac    float64   1        samples with the power cap at work
throttle_thermal_frac  float64   1        samples slowed by heat
throttle_hw_frac       float64   1        samples slowed by hardware
gpu_mem_peak_mib       float64   MiB      most device memory in use
clock_frac             float64   1        device clock, mean / highest it has; worst worker
clock_cv               float64   1        device clock, standard deviation / mean; worst worker
foreign_processes      int16     -        other processes on the device, start or end of the stream
ecc_errors             int64     -        uncorrected memory errors of the device in the stream
telemetry_gap_s        float64   s        longest time without a reading inside the window
"""
HOST = """
foreign_load_frac      float64   1        CPU time of other processes on the worker's own cores / its CPUs; worst
node_load_frac         float64   1        CPU time of all but this point's workers / CPUs of the node; worst
steal_frac             float64   1        time of the worker's CPUs given to other machines; worst
cpu_busy_frac          float64   1        CPU time of the worker's process / its CPUs, mean
cpu_mhz_mean           float64   MHz      clock of the worker's CPUs, mean
cpu_mhz_min            float64   MHz      clock of the worker's CPUs, lowest
cpu_energy_j           float64   J        of all processor packages of the nodes over the window
rss_peak_mib           float64   MiB      most memory of any worker's process
node_available_min_mib float64   MiB      least memory that a node had free
"""
ENERGY_BOUNDS = """
energy_j_lo            float64   J        energy_j less what the counter's steps or the sampling may hide
energy_j_hi            float64   J        energy_j and what they may hide
avg_power_w_lo         float64   W        energy_j_lo / window_s
avg_power_w_hi         float64   W        energy_j_hi / window_s
cpu_energy_j_lo        float64   J        cpu_energy_j less what the counter's steps may hide
cpu_energy_j_hi        float64   J        cpu_energy_j and what they may hide
"""
ACTIVITY = """
gpu_sm_frac            float64   1        time for which a multiprocessor had work, mean over all of them (NVML GPM); mean of the devices
gpu_occupancy_frac     float64   1        warps at work / most that the chip holds (GPM); mean of the devices
gpu_tensor_frac        float64   1        time for which tensor cores were busy (GPM); mean of the devices
gpu_tensor_float_frac  float64   1        time for which they multiplied floating-point numbers (GPM, HMMA); mean of the devices
gpu_tensor_int_frac    float64   1        time for which they multiplied integers (GPM, IMMA); mean of the devices
gpu_fp32_frac          float64   1        time for which the units of fp32 outside tensor cores were busy (GPM); mean of the devices
gpu_fp16_frac          float64   1        time for which the units of fp16 outside tensor cores were busy (GPM); mean of the devices
gpu_int_frac           float64   1        time for which the units of integers outside tensor cores were busy (GPM); mean of the devices
gpu_dram_frac          float64   1        traffic of device memory / the most it can (GPM); mean of the devices
pcie_rx_bytes_per_s    float64   B/s      traffic to a device over PCIe with its protocol (GPM); mean of the devices
pcie_tx_bytes_per_s    float64   B/s      traffic from a device over PCIe with its protocol (GPM); mean of the devices
nvlink_rx_bytes_per_s  float64   B/s      traffic to a device over all NVLinks (GPM); mean of the devices
nvlink_tx_bytes_per_s  float64   B/s      traffic from a device over all NVLinks (GPM); mean of the devices
pcie_gen               int16     -        PCIe generation of the device's link in the stream; slowest
pcie_width             int16     -        PCIe lanes of the device's link in the stream; fewest
dram_peak_bytes_per_s  float64   B/s      most that the device's memory can by its clock and width; lowest
"""
HEALTH = """
ecc_corrected          int64     -        memory errors of the device that were corrected in the stream
remapped_rows          int64     -        rows of device memory replaced in the stream
remapped_rows_total    int64     -        rows of device memory replaced in the device's life
row_remap_pending      bool      -        rows of device memory wait for a reset to be replaced, or cannot be
xid_errors             int32     -        errors of the device that the driver reported in the stream (XID)
xid_codes              ints      -        their codes, each once; null without any
"""
BLOCK_ACTIVITY = """
gpu_sm_frac            float32   1        time for which a multiprocessor had work, mean over all of them (GPM)
gpu_tensor_frac        float32   1        time for which tensor cores were busy (GPM)
gpu_dram_frac          float32   1        traffic of device memory / the most it can (GPM)
"""
OUTPUTS = """
outputs_sha256_start   string    -        hash of the outputs of a fixed batch before the warm-up; null where the engine gives none or others each time
outputs_sha256_end     string    -        the same batch after the window; null where unknown
"""

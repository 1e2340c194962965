"""Columns of the machines that measured; lines as in `columns.py`."""

from __future__ import annotations

ENVIRONMENT = """
run_id                 string    -        ULID of the run that wrote the row
environment_id         string    -        hash of devices, driver, libraries and CPU model
schema_version         int16     -        version of this schema
node_id                string    -        node in the Ray cluster
hostname               string    -        name of the host
os                     string    -        operating system
kernel                 string    -        kernel release
container_image        string    -        image, where it is known
container_digest       string    -        digest of the image, where it is known
in_container           bool      -        the process runs in a container
cpu_model              string    -        product name of the CPU
cpu_sockets            int16     -        CPU sockets
cpu_cores              int16     -        physical cores
cpu_threads            int16     -        logical CPUs
cpu_usable             int16     -        logical CPUs that the process may use
cpu_governor           string    -        frequency governor
smt                    bool      -        simultaneous multithreading is on
ram_gib                float64   GiB      main memory
numa_nodes             int16     -        NUMA nodes
device                 string    -        product name of the device
device_index           int16     -        number of the device on its host
gpu_uuid               string    -        the GPU's own UUID
gpu_name               string    -        product name of the GPU
gpu_vbios              string    -        version of the GPU's firmware
compute_capability     string    -        of the GPU, as 9.0
gpu_mem_mib            float64   MiB      memory of the GPU
mig_mode               string    -        on, off
ecc_mode               string    -        on, off
persistence_mode       string    -        on, off
power_limit_w          float64   W        power limit in force
power_limit_default_w  float64   W        power limit of the factory
app_clock_sm_mhz       float64   MHz      SM application clock
max_clock_sm_mhz       float64   MHz      highest SM clock
pcie_gen               int16     -        PCIe generation in use
pcie_width             int16     -        PCIe lanes in use
pcie_gen_max           int16     -        highest PCIe generation
topology_json          string    JSON     links between devices
driver_version         string    -        GPU driver
cuda_driver_version    string    -        CUDA of the driver
cuda_runtime_version   string    -        CUDA of the runtime
tensorrt_version       string    -        TensorRT version, as installed
onnxruntime_version    string    -        ONNX Runtime version, as installed
openvino_version       string    -        OpenVINO version, as installed
onnx_version           string    -        ONNX version, as installed
ray_version            string    -        Ray version, as installed
python_version         string    -        version of the interpreter
numpy_version          string    -        NumPy version, as installed
raybench_version       string    -        raybench version, as installed
raybench_git_sha       string    -        commit, when run from a checkout
git_dirty              bool      -        the checkout had changes
pip_freeze_sha256      string    -        hash of all installed names and versions
cloud_provider         string    -        aws, gcp or azure, from the machine's vendor name
instance_type          string    -        where the machine reports it
slurm_job_id           string    -        job of the batch system
env_allowlist          map       -        environment variables that affect the measurement
cpu_quota_cores        float64   cores    CPU time that the control groups allow; null without a quota
memory_limit_gib       float64   GiB      memory that the control groups allow; null without a limit
tensorrt_rtx_version   string    -        version of TensorRT for RTX, as installed
torch_version          string    -        PyTorch version, as installed
"""

"""TensorRT: one plan on one NVIDIA GPU. Importing this room loads no vendor library."""

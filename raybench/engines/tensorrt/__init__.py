"""The TensorRT engine: one plan on one NVIDIA GPU. Importing it loads no vendor library."""

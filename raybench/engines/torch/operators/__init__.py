"""The operators of ONNX in PyTorch's terms."""

"""Passes that rewrite the fp32 graph: reduced precisions, and LRN for ONNX Runtime."""

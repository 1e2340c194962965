"""Models by name: `timm:NAME`, `torchvision:NAME` and `hf:NAME`, exported to ONNX in a process of its own."""

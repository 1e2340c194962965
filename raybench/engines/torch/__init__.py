"""PyTorch as an engine: a graph's operators by a table of our own, eager or compiled."""

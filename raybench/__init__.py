"""raybench: how fast a machine or a cluster runs inference, and how that grows."""

__version__ = "0.1.0"

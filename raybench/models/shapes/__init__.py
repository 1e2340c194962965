"""Shapes, sizes and value ranges of a model's inputs."""

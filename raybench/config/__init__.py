"""YAML files and key=value words become an Experiment; the only door to omegaconf."""

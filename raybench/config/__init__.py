"""Turns YAML files and `key=value` words into an Experiment."""

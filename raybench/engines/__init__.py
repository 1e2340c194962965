"""Engines: their interface, the registry, and a module or package for each."""

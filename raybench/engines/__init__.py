"""WHAT RUNS IT: the seam, the registry, and one file or room an engine."""

"""Timing of streams: blocks, warm-up, stopping rule, flags and summary. No Ray, no engine names."""

"""Timing of streams: blocks, warm-up, stopping rule, flags, summary. No Ray, no engines."""

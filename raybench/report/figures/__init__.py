"""Figures: one file a question, each gives drawings with captions."""

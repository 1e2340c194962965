"""Figures: matplotlib's one door. One file a question; each gives drawings with captions."""

"""Figures with captions, one file for each question; the only package that uses matplotlib."""

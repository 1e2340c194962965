"""Runs every trial of a plan and writes its rows."""

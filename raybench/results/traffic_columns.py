"""Columns of what a network moves for each item; lines as in `columns.py`."""

from __future__ import annotations

TRAFFIC = """
table_parameters       int64     -        part of parameters in tables of which an item only gathers rows; null if unknown
activations_per_item   int64     1/item   numbers that operators of the fp32 graph hand on for an item; null if unknown
input_bytes_per_item   int64     B/item   inputs of an item that cross to the device with transfers on; null if unknown
output_bytes_per_item  int64     B/item   outputs of an item that cross to the host with transfers on; null if unknown
"""

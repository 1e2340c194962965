"""Columns of the lengths, the memory and the rate of decoders; lines as in `columns.py`."""

from __future__ import annotations

DECODER = """
prompt                 int32     tokens   tokens that a decoder reads at once; null for other models
context                int32     tokens   tokens in the cache beside which a decoder generates the next; null for other models
new_tokens             int32     tokens   tokens that it generates before its positions begin again; null for other models
kv_cache_bytes         int64     B        keys and values of all items of a batch, as the engine keeps them; null for other models
tokens_per_s           float64   tokens/s items_per_s x tokens of an item: of the prompt, or the one generated; null for other models
weight_bytes           int64     B        weights and constants as the graph that ran stores them; null if unknown
"""

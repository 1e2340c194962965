"""Stored results: the schema of the tables, writing them and reading them."""

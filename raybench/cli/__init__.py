"""The command line: one module a verb, and its arguments, help pages and progress display."""

"""The command line: one module a verb, its arguments, its help pages and its progress display."""

"""The command line: words become one call, results become text."""

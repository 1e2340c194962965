"""The items that are streamed: drawn, given or read from files."""

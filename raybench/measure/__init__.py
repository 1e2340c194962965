"""HOW IT IS TIMED: the stream, blocks, rules and the summary. No Ray, no engine names."""

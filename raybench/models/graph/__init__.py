"""What a graph is: how it is read, and what can be found out of it without running it."""

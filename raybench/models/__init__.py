"""What is run: networks, user's graphs, their precisions, and the batches that feed them."""

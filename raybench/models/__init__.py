"""Models: the zoo, users' graphs, their precisions, and the batches that feed them."""

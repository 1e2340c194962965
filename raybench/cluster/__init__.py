"""Everything that uses Ray: start or join a cluster, reserve devices, run workers on them."""

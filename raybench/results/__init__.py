"""What is kept: the schema of the tables, the store that writes them, the load that reads them."""

"""Statistics over numpy arrays: intervals, trends, ratios and the scaling law."""

"""Tables printed on a terminal; the only door to rich."""

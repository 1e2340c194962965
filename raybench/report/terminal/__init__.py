"""Tables printed on a terminal; the only package that uses rich."""

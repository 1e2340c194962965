"""Sections: the parts of a report, one file each, from answers to figures, tables and gaps."""

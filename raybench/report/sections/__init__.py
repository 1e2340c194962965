"""The sections of a report, one file each: figures, tables and what is missing."""

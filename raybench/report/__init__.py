"""Results for a reader: the terminal's table, figures, and one offline page."""

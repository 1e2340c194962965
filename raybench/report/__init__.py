"""How it is shown: the terminal's table, figures, and one offline page."""

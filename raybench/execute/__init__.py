"""Every trial of the plan is run; a failure becomes a row."""

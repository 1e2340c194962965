"""What it means: questions to the rows of a results folder, answered with numpy and Arrow alone."""

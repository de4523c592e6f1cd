"""Read what a change starts from: the base revision, its files and its own code."""

"""Read the base of a change: a git revision, its files and its code."""

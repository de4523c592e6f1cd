"""Benchmarks: figures and ratios of one run on one machine, and the bounds that they have to reach."""

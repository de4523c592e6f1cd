"""Benchmarks: figures and ratios of one run on one machine, and their bounds."""

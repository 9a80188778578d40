"""Measured comparisons of janode with its peers: `python -m benchmarks --suite fixed`."""

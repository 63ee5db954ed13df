"""Measurements against peers, a script per claim; results in docs/benchmarks.md."""

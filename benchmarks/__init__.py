"""Benchmarks: `python -m benchmarks --help`; what each figure means is in docs/PERFORMANCE.md."""

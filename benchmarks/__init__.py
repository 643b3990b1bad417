"""Benchmarks against peers: `python -m benchmarks.run`; see docs/benchmarks.md."""

"""Benchmarks against other people's implementations: `python -m benchmarks.<name>`, one JSON line a comparison."""

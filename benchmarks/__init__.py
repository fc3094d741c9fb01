"""Benchmarks: `python -m benchmarks [NAME …]` prints Markdown tables. None of this is a test."""

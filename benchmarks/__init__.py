"""Benchmarks: `python -m benchmarks [NAME …]` runs them and prints Markdown tables. None of this is a test."""

"""The study of the reference model: `python -m benchmarks.study`. Prints the measurements page's table, writes the report."""

"""The study of the reference model: `python -m benchmarks.study`. Prints the README's table, writes the report."""

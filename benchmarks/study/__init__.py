"""The study of the reference model: `python -m benchmarks.study`. Prints the table of figures, writes the report."""

"""Hostile images and audio through the guard's own path: `python -m benchmarks.fuzz`."""

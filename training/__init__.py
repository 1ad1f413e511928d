"""How the reference model was made: `python -m training.train`, `python -m training.evaluate`."""

"""Ready-made LCEL compositions around the guard."""

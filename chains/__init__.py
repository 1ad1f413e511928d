"""Ready-made LCEL chains with the guard."""

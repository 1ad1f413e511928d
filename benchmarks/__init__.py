"""Measurements: what the guard costs and what it withstands. Nothing here is a test."""

"""Small helpers that several rooms share; not part of the API."""

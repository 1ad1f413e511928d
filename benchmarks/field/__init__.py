"""Real models under attack and behind the guard, and what its perturbation costs them.

The models and media come from package registries at run time, into a cache folder; none is part of this project.
"""

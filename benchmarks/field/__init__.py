"""What the guard's perturbation costs a real reader of text, a real namer of objects and a real transcriber of
speech.

The models and images come from package registries at run time, into a cache folder; none is part of this project.
"""

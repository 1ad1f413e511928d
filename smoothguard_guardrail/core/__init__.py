"""The guard's algorithm, without any host: perturb, ask, vote."""

"""Diffusion models: one file per model; processes, networks and samplers are shared."""

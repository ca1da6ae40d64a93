"""Prompts by dataset, as TOML: NAME.building.toml to develop with, NAME.final.toml to report."""

"""Recipes: one file an experiment, each starting from `configs.defaults`."""

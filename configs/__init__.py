"""Recipes: one file per experiment, each starting from `configs.defaults`."""

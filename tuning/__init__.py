"""Hyperparameter search: spaces, studies, samplers, pruners and results."""

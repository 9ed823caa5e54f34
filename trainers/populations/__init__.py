"""Populations: many trainings in one compiled program."""

"""Duplicates: equal and nearly equal examples, inside a split and across splits."""

"""Benchmarks of Plumbline: ratios of two things timed side by side. See `python -m benchmarks --help`."""

import runpy

import ml_collections


def load_config(path: str) -> ml_collections.ConfigDict:
    """Returns the config of a file under `configs/`."""
    return runpy.run_path(path)["get_config"]()

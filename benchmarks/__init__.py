"""What Plumbline costs, as ratios of two things measured side by side; see `python -m benchmarks --help`."""

import runpy

import ml_collections


def load_config(path: str) -> ml_collections.ConfigDict:
    """The config that a file under `configs/` gives."""
    return runpy.run_path(path)["get_config"]()

"""The subjects of simulations. A new one is a module with `SIMULATIONS`, and a row here."""

import importlib

from calibration.simulation import Simulation

SUBJECTS: dict[str, str] = {
    "means": "Means over seeds and folds",
    "clusters": "Means over clusters",
    "learning_curves": "Learning curves",
    "search": "Searches",
    "comparisons": "Comparisons of two recipes",
    "remedies": "Tried remedies",
    "shift": "Shift of labels, and controls",
    "labels": "Wrong labels",
}
"""Module of `calibration` and its heading, in the order of docs/calibration.md. The module's docstring is the text."""


def simulations(subject: str) -> tuple[Simulation, ...]:
    """Returns the simulations of a subject."""
    return importlib.import_module(f"calibration.{subject}").SIMULATIONS


def document(subject: str) -> str:
    """Returns the docstring of a subject's module, the text above its tables."""
    return importlib.import_module(f"calibration.{subject}").__doc__

"""Student's interval over seeds, and the interval for folds that share training rows (Nadeau & Bengio 2003)."""

import numpy as np

from calibration.simulation import Simulation
from diagnostics.statistics import mean_interval, paired_difference


def _covers_the_mean(rng: np.random.Generator) -> bool:
    _, low, high = mean_interval(rng.normal(0.9, 0.01, 5))
    return bool(low <= 0.9 <= high)


def _differs_without_a_cause(rng: np.random.Generator) -> bool:
    shared = rng.normal(0.9, 0.02, 5)
    _, low, high = paired_difference(shared + rng.normal(0, 0.01, 5), shared + rng.normal(0, 0.01, 5))
    return not low <= 0 <= high


SIMULATIONS = (
    Simulation(
        claim="95 % interval of a mean over seeds",
        setting="5 normal values",
        kind="coverage",
        draw=_covers_the_mean,
        nominal=0.95,
        promised=0.95,
        draws=10_000,
        quick=2_000,
    ),
    Simulation(
        claim="difference of two recipes over paired seeds is beyond chance",
        setting="5 pairs of equal recipes",
        kind="false alarms",
        draw=_differs_without_a_cause,
        nominal=0.05,
        promised=0.05,
        draws=10_000,
        quick=2_000,
    ),
)

"""Means of rows in clusters, such as patients or writers, with `diagnostics.statistics.clustered_interval`: CR2 with
the degrees of freedom of Bell & McCaffrey 2002 as Imbens & Kolesar 2016 estimate them. Two clusters give no interval.

Few clusters whose scores are skewed, as where one writer of five is hard and the others are easy, are covered less
often than 95 %: the hard kind is often not among them, and no interval from the clusters seen can say so.
"""

import functools

import numpy as np

from calibration.simulation import Simulation
from diagnostics.statistics import clustered_interval

# Rows of each cluster.
_COUNTS = {
    "3 equal clusters": (30,) * 3,
    "10 equal clusters": (30,) * 10,
    "3 clusters of 10, 20 and 60 rows": (10, 20, 60),
    "6 clusters, one of half of the rows": (20, 20, 20, 20, 20, 100),
    "10 clusters, each half as large again as the last": tuple(round(5 * 1.5**power) for power in range(10)),
}
# Beta distributions of a cluster's accuracy, with the mean and the correlation within clusters.
_ACCURACY, _CORRELATION = 0.85, 0.05


def _covers_normal(rng: np.random.Generator, counts: tuple[int, ...], deviation: float) -> bool:
    clusters = np.repeat(np.arange(len(counts)), counts)
    values = deviation * rng.normal(size=len(counts))[clusters] + rng.normal(size=len(clusters))
    _, low, high = clustered_interval(values, clusters, np.ones(len(clusters)))
    return bool(low <= 0 <= high)


def _covers_accuracy(rng: np.random.Generator, counts: tuple[int, ...], correlation: float) -> bool:
    clusters = np.repeat(np.arange(len(counts)), counts)
    strength = (1 - correlation) / correlation
    shares = rng.beta(_ACCURACY * strength, (1 - _ACCURACY) * strength, len(counts))
    right = (rng.random(len(clusters)) < shares[clusters]).astype(np.float64)
    _, low, high = clustered_interval(right, clusters, np.ones(len(clusters)))
    return bool(low <= _ACCURACY <= high)


def _simulation(setting: str, draw: object, promised: float) -> Simulation:
    return Simulation(
        claim="95 % interval of a mean over clusters",
        setting=setting,
        kind="coverage",
        draw=draw,
        nominal=0.95,
        promised=promised,
        draws=5_000,
        quick=500,
    )


SIMULATIONS = (
    *(
        _simulation(
            f"{name}, {'independent rows' if not deviation else 'as much variance between as within'}",
            functools.partial(_covers_normal, counts=counts, deviation=deviation),
            promised=0.94,
        )
        for name, counts in _COUNTS.items()
        for deviation in (0.0, 1.0)
    ),
    *(
        _simulation(
            f"accuracy {_ACCURACY:.0%}, {words}, {name}",
            functools.partial(_covers_accuracy, counts=_COUNTS[name], correlation=correlation),
            promised=promised,
        )
        for words, correlation, promised in (
            ("clusters alike", _CORRELATION, 0.90),
            ("a few hard clusters", 0.3, 0.80),
        )
        for name in ("3 equal clusters", "10 equal clusters", "6 clusters, one of half of the rows")
    ),
)

"""Wrong labels beside overlapping classes, for two normal classes and logistic regression out of fold.

"Medium or high" counts alarms without a wrong label. Intervals are of the number of wrong labels; "reliable" are draws
in which the probabilities of the rows that are called wrong differ from the share that is by at most 0.1.
"""

import functools

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from calibration.simulation import Simulation
from diagnostics.quality import label_errors
from diagnostics.thresholds import THRESHOLDS


def _draw(rng: np.random.Generator, right: float, noise: float, rows: int) -> tuple[label_errors.Judgement, np.ndarray]:
    truth = rng.integers(0, 2, rows)
    inputs = rng.normal(size=(rows, 2))
    inputs[:, 0] += 2 * stats.norm.ppf(right) * (truth - 0.5)
    wrong = rng.random(rows) < noise
    labels = np.where(wrong, 1 - truth, truth)
    predictions = cross_val_predict(LogisticRegression(), inputs, labels, cv=5, method="predict_proba")
    return label_errors.estimate(labels, predictions[None]), wrong


def _alarms(rng: np.random.Generator, *, right: float, rows: int) -> bool:
    judged, _ = _draw(rng, right, 0.0, rows)
    return judged.certain and THRESHOLDS.wrong_labels.grade(judged.share[1]) in ("medium", "high")


def _covers(rng: np.random.Generator, *, right: float, noise: float, rows: int) -> bool:
    judged, wrong = _draw(rng, right, noise, rows)
    return bool(judged.share[1] <= wrong.mean() <= judged.share[2])


def _is_reliable(rng: np.random.Generator, *, right: float, noise: float, rows: int) -> bool | None:
    judged, wrong = _draw(rng, right, noise, rows)
    called = judged.wrong > THRESHOLDS.wrong_label
    if not judged.certain or not called.any():
        return None
    return bool(abs(judged.wrong[called].mean() - wrong[called].mean()) <= 0.1)


def _finds(rng: np.random.Generator, *, right: float, noise: float, rows: int) -> bool:
    return _draw(rng, right, noise, rows)[0].certain


SIMULATIONS = (
    *(
        Simulation(
            claim="labels are wrong (medium or high)",
            setting=f"best accuracy {right:g}, {rows:,} rows",
            kind="false alarms",
            draw=functools.partial(_alarms, right=right, rows=rows),
            promised=0.01,
            draws=50,
            quick=3,
        )
        for right, rows in ((0.69, 300), (0.69, 2000), (0.84, 2000), (0.933, 300), (0.99, 2000))
    ),
    *(
        Simulation(
            claim="95 % interval of the number of wrong labels",
            setting=f"best accuracy {right:g}, {noise:g} wrong, {rows:,} rows",
            kind="coverage",
            draw=functools.partial(_covers, right=right, noise=noise, rows=rows),
            nominal=0.95,
            promised=0.95,
            draws=50,
            quick=3,
        )
        for right, noise, rows in ((0.69, 0.1, 2000), (0.84, 0.05, 300), (0.933, 0.1, 2000), (0.99, 0.2, 2000))
    ),
    *(
        Simulation(
            claim="probabilities of called labels are reliable",
            setting=f"best accuracy {right:g}, {noise:g} wrong, 2,000 rows",
            kind="coverage",
            draw=functools.partial(_is_reliable, right=right, noise=noise, rows=2000),
            promised=0.75,
            draws=25,
            quick=3,
        )
        for right, noise in ((0.84, 0.2), (0.933, 0.1), (0.99, 0.2))
    ),
    *(
        Simulation(
            claim="wrong labels, as their share",
            setting=f"best accuracy {right:g}, 2,000 rows",
            kind="found",
            draw=functools.partial(_finds, right=right, noise=noise, rows=2000),
            promised=promised,
            draws=25,
            quick=2,
            strength=noise,
        )
        for right, noise, promised in (
            (0.84, 0.05, 0.0),
            (0.84, 0.2, 0.3),
            (0.933, 0.01, 0.0),
            (0.933, 0.05, 0.9),
            (0.99, 0.01, 0.3),
            (0.99, 0.05, 0.9),
        )
    ),
)

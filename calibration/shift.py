"""Labels of a test split whose groups are its own, with rows of a group that all have one label; whole groups are
permuted (`diagnostics.quality.two_sample.grouped_test`). And models that are trained on random labels ten times, and
judged by true ones (`diagnostics.fit.control`).

An alarm is a p-value at most as large as the level of the finding. A chi-squared test that takes the rows as
independent has a p-value of at most 0.01 in 0.91 of 1,000 draws of 30 groups and three classes. If the random labels
are permuted true ones, so that a rare class stays rare, logistic regression on squares is accused in 0.89 of 300 draws
in which one row of five has a class of wider spread.
"""

from collections.abc import Callable

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from calibration.simulation import Simulation
from diagnostics.fit.control import p_above_chance
from diagnostics.quality.two_sample import chi_squared_test, grouped_test
from diagnostics.thresholds import THRESHOLDS
from diagnostics.trainings import CONTROLS, random_labels

# Rows that are trained on, and as many held out.
_ROWS = 200
# Draws inputs and labels of some rows.
Data = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def _groups(rng: np.random.Generator, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each class in each group, and the third of the groups that are tested on."""
    counts = np.zeros((count, classes))
    counts[np.arange(count), rng.integers(0, classes, count)] = rng.integers(5, 60, count)
    second = np.zeros(count, bool)
    second[rng.permutation(count)[: count // 3]] = True
    return counts, second


def shifts_by_rows(rng: np.random.Generator) -> bool:
    """Whether a test that takes the rows of 30 groups as independent raises an alarm."""
    counts, second = _groups(rng, 30, 3)
    tested = np.stack([counts[~second].sum(axis=0), counts[second].sum(axis=0)]).astype(int)
    return chi_squared_test(tested)[1] <= THRESHOLDS.shift_significance


def _shifts(count: int, classes: int, *, ordered: bool) -> Simulation:
    def draw(rng: np.random.Generator) -> bool:
        counts, second = _groups(rng, count, classes)
        return grouped_test(counts, second, ordered=ordered) <= THRESHOLDS.shift_significance

    labels = f"a number with {classes} values" if ordered else f"{classes} classes"
    return Simulation(
        claim="labels of new groups differ",
        setting=f"{count} groups of 5 to 60 rows, {labels}, constant in a group",
        kind="false alarms",
        draw=draw,
        nominal=THRESHOLDS.shift_significance,
        promised=THRESHOLDS.shift_significance,
        draws=2_000,
        quick=100,
    )


def _clusters(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two classes in six clusters of one class each."""
    centres = rng.normal(size=(6, 4)) * 2
    kind = rng.integers(0, 6, rows)
    return centres[kind] + rng.normal(size=(rows, 4)) / 2, kind % 2


def _rare(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two classes, of which the rare one has a wider spread."""
    labels = (rng.random(rows) < 0.2).astype(int)
    return rng.normal(size=(rows, 4)) * np.where(labels, 4, 1)[:, None], labels


def accuses(rng: np.random.Generator, model: BaseEstimator, data: Data, *, permuted: bool = False) -> bool:
    """Whether a model without a leak is accused of one; `permuted` for random labels with the shares of the true."""
    inputs, labels = data(rng, 2 * _ROWS)
    train, held_out = slice(None, _ROWS), slice(_ROWS, None)
    excess = []
    for _ in range(CONTROLS):
        own = rng.permutation(labels[train]) if permuted else random_labels(labels[train], 2, rng)
        chosen = model.fit(inputs[train], own).predict(inputs[held_out])
        ones = chosen.mean(), labels[held_out].mean()
        chance = ones[0] * ones[1] + (1 - ones[0]) * (1 - ones[1])
        excess.append((chosen == labels[held_out]).mean() - chance)
    return bool(p_above_chance(np.array(excess)) <= THRESHOLDS.control and np.mean(excess) > THRESHOLDS.point)


def _control(setting: str, model: BaseEstimator, data: Data) -> Simulation:
    return Simulation(
        claim="a model that was trained on random labels predicts true ones",
        setting=setting,
        kind="false alarms",
        draw=lambda rng: accuses(rng, model, data),
        nominal=THRESHOLDS.control,
        promised=0.005,
        draws=1_000,
        quick=40,
    )


QUADRATIC = make_pipeline(PolynomialFeatures(2), LogisticRegression(C=1e3, max_iter=300))
"""A model that predicts a rare class far out, as networks do."""

SIMULATIONS = (
    _shifts(12, 2, ordered=False),
    _shifts(30, 3, ordered=False),
    _shifts(200, 10, ordered=False),
    _shifts(30, 20, ordered=True),
    _control("nearest neighbours, 200 rows in 6 clusters", KNeighborsClassifier(1), _clusters),
    _control("logistic regression, 200 rows in 6 clusters", LogisticRegression(), _clusters),
    _control("logistic regression on squares, 200 rows, a rare class of wider spread", QUADRATIC, _rare),
)

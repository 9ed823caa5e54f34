"""Two recipes are compared on several seeds and the same test rows. Both vary: the interval holds for other seeds and
for other test rows (`diagnostics/crossed.py`). `transfer.check`, `plumbline ablate` and tried remedies report it.
`plumbline relevance` compares a source with draws of random parameters in the same way, on folds.

In the normal model each row has a difficulty, each training a quality, and each pair of the two a deviation; a row is
right if their sum is above 0. Trainings of one recipe differ by about one point of accuracy. The networks are
scikit-learn's, trained on 300 of the handwritten digits; draws take seeds out of 24 trainings of each recipe, and rows
out of 1,497, whose mean is the truth.
"""

import functools
import warnings
from collections.abc import Callable

import numpy as np
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from calibration.simulation import Simulation
from diagnostics.crossed import crossed_interval
from diagnostics.statistics import Interval
from diagnostics.transfer.relevance import Candidate, Layer, difference

_SEEDS, _TRAININGS, _TRAINING_ROWS = 5, 24, 300
# Of the normal model: mean and deviation of the difficulty of rows; deviations of trainings, of pairs of a training and
# a row, of the effect of a recipe on a row, and of groups of rows, in difficulty and in that effect.
_EASE, _ROWS, _QUALITY, _PAIRS, _EFFECT, _GROUPS = 1.5, 1.2, 0.05, 0.6, 0.3, 0.5


def _excludes_zero(interval: Interval) -> bool:
    return bool(interval[1] > 0 or interval[2] < 0)


def _right(rng: np.random.Generator, ease: np.ndarray, quality: float) -> np.ndarray:
    """Returns whether trainings of a recipe are right: (seeds, rows) of 0 and 1."""
    trainings = rng.normal(0, quality, (_SEEDS, 1))
    return (ease + trainings + rng.normal(0, _PAIRS, (_SEEDS, len(ease))) > 0).astype(np.float64)


def _equal_recipes(rng: np.random.Generator, rows: int, quality: float) -> bool:
    ease = rng.normal(_EASE, _ROWS, rows)
    gap = _right(rng, ease, quality) - _right(rng, ease, quality)
    return _excludes_zero(crossed_interval(gap, np.ones(rows)))


def _covers_an_effect(rng: np.random.Generator, rows: int, groups: int = 0) -> bool:
    """One recipe is better by 0.2 in the mean over rows; how much better depends on the row and on its group."""
    ease, effect = rng.normal(_EASE, _ROWS, rows), rng.normal(0.2, _EFFECT, rows)
    index = rng.integers(0, groups, rows) if groups else None
    common = _GROUPS if groups else 0.0
    if groups:
        ease, effect = (values + rng.normal(0, common, groups)[index] for values in (ease, effect))
    gap = _right(rng, ease + effect, _QUALITY) - _right(rng, ease, _QUALITY)
    _, low, high = crossed_interval(gap, np.ones(rows), index)
    spread = _ROWS**2 + common**2 + _QUALITY**2 + _PAIRS**2
    before = stats.norm.cdf(_EASE / np.sqrt(spread))
    after = stats.norm.cdf((_EASE + 0.2) / np.sqrt(spread + _EFFECT**2 + common**2))
    return bool(low <= after - before <= high)


@functools.cache
def _networks(units: int) -> np.ndarray:
    """Returns whether networks of some hidden units are right: (trainings, rows)."""
    inputs, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    train, rest = order[:_TRAINING_ROWS], order[_TRAINING_ROWS:]
    right = []
    for seed in range(_TRAININGS):
        model = MLPClassifier((units,), max_iter=20, learning_rate_init=3e-3, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(inputs[train] / 16, labels[train])
        right.append(model.predict(inputs[rest] / 16) == labels[rest])
    return np.array(right, np.float64)


def _equal_networks(rng: np.random.Generator, rows: int) -> bool:
    right = _networks(32)
    seeds = rng.permutation(_TRAININGS)[: 2 * _SEEDS].reshape(2, _SEEDS)
    chosen = rng.choice(right.shape[1], rows, replace=False)
    one, other = (right[own][:, chosen] for own in seeds)
    return _excludes_zero(crossed_interval(one - other, np.ones(rows)))


def _covers_networks(rng: np.random.Generator, rows: int) -> bool:
    small, large = _networks(16), _networks(32)
    seeds = (rng.choice(_TRAININGS, _SEEDS, replace=False) for _ in range(2))
    chosen = rng.choice(small.shape[1], rows, replace=False)
    one, other = (right[own][:, chosen] for right, own in zip((large, small), seeds, strict=True))
    _, low, high = crossed_interval(one - other, np.ones(rows))
    return bool(low <= (large.mean() - small.mean()) <= high)


def _random_source(rng: np.random.Generator, deviation: float) -> bool:
    """A source is one of six draws of random parameters, scored on five folds."""
    folds, draws = rng.normal(0.8, 0.02, 5), rng.normal(0, deviation, (6, 1))
    scores = folds + draws + rng.normal(0, 0.01, (6, 5))

    def candidate(kind: str, values: np.ndarray) -> Candidate:
        layer = Layer(name="features", size=1, probe=values.mean(axis=0))
        return Candidate(name=kind, kind=kind, layers=(layer,), overlap=0.25, draws=values if len(values) > 1 else None)

    source, random = candidate("source", scores[:1]), candidate("random", scores[1:])
    return _excludes_zero(difference(source, random, "classification"))


def _false_alarms(setting: str, draw: Callable[[np.random.Generator], bool], draws: int, quick: int) -> Simulation:
    return Simulation(
        claim="one of two recipes is better, as the interval over seeds and rows excludes 0",
        setting=setting,
        kind="false alarms",
        draw=draw,
        nominal=0.05,
        promised=0.05,
        draws=draws,
        quick=quick,
    )


def _coverage(setting: str, draw: Callable[[np.random.Generator], bool], promised: float = 0.95) -> Simulation:
    return Simulation(
        claim="95 % interval of a difference over seeds and rows",
        setting=setting,
        kind="coverage",
        draw=draw,
        nominal=0.95,
        promised=promised,
        draws=4_000,
        quick=400,
    )


SIMULATIONS = (
    *(
        _false_alarms(f"equal recipes, normal model, 5 seeds, {rows:,} rows", draw, draws, quick)
        for rows, draws, quick in ((30, 4_000, 400), (382, 4_000, 400), (50_000, 1_000, 60))
        for draw in (functools.partial(_equal_recipes, rows=rows, quality=_QUALITY),)
    ),
    _false_alarms(
        "equal recipes, normal model, 5 seeds that differ much, 5,000 rows",
        functools.partial(_equal_recipes, rows=5_000, quality=0.5),
        2_000,
        200,
    ),
    *(
        _false_alarms(f"equal networks on digits, 5 seeds, {rows:,} rows", draw, 4_000, 400)
        for rows in (30, 382, 1_497)
        for draw in (functools.partial(_equal_networks, rows=rows),)
    ),
    *(
        Simulation(
            claim="a source is better or worse than random initialisation",
            setting=f"5 folds; draws differ by {deviation:.1%} in accuracy, and the source is one of them",
            kind="false alarms",
            draw=functools.partial(_random_source, deviation=deviation),
            nominal=0.05,
            promised=0.05,
            draws=4_000,
            quick=400,
        )
        for deviation in (0.002, 0.03)
    ),
    *(
        _coverage(f"unequal recipes, normal model, 5 seeds, {rows:,} rows", draw)
        for rows in (30, 382)
        for draw in (functools.partial(_covers_an_effect, rows=rows),)
    ),
    *(
        _coverage(f"the same, 300 rows in {groups} groups", draw)
        for groups in (3, 12)
        for draw in (functools.partial(_covers_an_effect, rows=300, groups=groups),)
    ),
    *(
        _coverage(f"networks of 32 and 16 units on digits, 5 seeds, {rows:,} rows", draw)
        for rows in (30, 382)
        for draw in (functools.partial(_covers_networks, rows=rows),)
    ),
)

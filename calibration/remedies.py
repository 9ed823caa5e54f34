"""An audit tries several remedies at once. Repeated folds of the training rows choose (`diagnostics/remedy_report.py`),
and test rows, of which there are 30, say by how much the kept ones help.

The models are scikit-learn's trees with random splits, trained on 300 rows of two normal distributions with 15 % of the
labels flipped. Remedies make leaves larger or trees shallower, which helps much or little or does harm, or change the
criterion, which hardly matters. The truth is the accuracy on 2,000 other rows, in the mean over 20 seeds. For
comparison: if the 30 test rows and 10 seeds choose, by an interval over the seeds alone, 50 remedies are kept in 400
such audits, and 6 of them do harm.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold
from sklearn.tree import DecisionTreeClassifier

from calibration.simulation import Simulation
from diagnostics.ablation import BASELINE, JudgedRows
from diagnostics.finding import Remedy
from diagnostics.remedies import Trial
from diagnostics.remedy_plans import FOLDS
from diagnostics.remedy_report import choose
from diagnostics.statistics import Interval, bonferroni

_TRAINING_ROWS, _TEST_ROWS, _OTHER_ROWS, _COLUMNS = 300, 30, 2_000, 8
_SEEDS, _TRUE_SEEDS, _DISTANCE, _FLIPPED = 5, 20, 0.8, 0.15

Recipe = Mapping[str, Any]
Rows = tuple[np.ndarray, np.ndarray]

_REMEDIES: dict[str, Recipe] = {
    "leaves of 4": {"min_samples_leaf": 4},
    "leaves of 12": {"min_samples_leaf": 12},
    "one split": {"max_depth": 1},
    "some columns": {"max_features": 0.7},
    "entropy": {"criterion": "entropy"},
}


def _draw_rows(rng: np.random.Generator, count: int) -> Rows:
    labels = rng.integers(0, 2, count)
    inputs = rng.normal(size=(count, _COLUMNS)) + _DISTANCE * labels[:, None] * (np.arange(_COLUMNS) < 4)
    return inputs, np.where(rng.random(count) < _FLIPPED, 1 - labels, labels)


def _draw_seeds(rng: np.random.Generator, count: int) -> list[int]:
    return rng.integers(2**30, size=count).tolist()


def _right(recipe: Recipe, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    model = DecisionTreeClassifier(splitter="random", random_state=seed, **recipe).fit(*train)
    return (model.predict(rows[0]) == rows[1]).astype(np.float64)


def _out_of_fold(recipe: Recipe, train: Rows, splits: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
    inputs, labels = train
    scores = np.zeros((len(splits), len(labels)))
    for repetition, (split, seed) in enumerate(zip(splits, seeds, strict=True)):
        splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=split)
        for number, (own, held_out) in enumerate(splitter.split(inputs, labels)):
            parts = ((inputs[rows], labels[rows]) for rows in (own, held_out))
            scores[repetition, held_out] = _right(recipe, *parts, seed + number)
    return scores


def _keep(rng: np.random.Generator, train: Rows, remedies: Mapping[str, Recipe]) -> list[str]:
    """Returns the names of the remedies that folds choose."""
    splits = _draw_seeds(rng, _SEEDS)
    scores = {
        name: _out_of_fold(recipe, train, splits, _draw_seeds(rng, _SEEDS))
        for name, recipe in {BASELINE: {}, **remedies}.items()
    }
    trials = [
        Trial(
            name=name,
            findings=(),
            remedy=Remedy(text=name),
            overrides={},
            data={},
            drop=np.zeros(0, np.int64),
            weights=None,
        )
        for name in remedies
    ]
    choices = choose(trials, scores, _judged(train[1]), higher_is_better=True)
    return [choice.trial.name for choice in choices if choice.verdict == "better"]


def _judged(labels: np.ndarray) -> JudgedRows:
    return JudgedRows(labels=labels, weights=np.ones(len(labels)), groups=None, task="classification")


def _audit(rng: np.random.Generator) -> tuple[float, Interval] | None:
    """Tries all remedies; returns the true effect of one that is kept, and its interval on test rows, if any is."""
    train, test, others = (_draw_rows(rng, count) for count in (_TRAINING_ROWS, _TEST_ROWS, _OTHER_ROWS))
    kept = _keep(rng, train, _REMEDIES)
    if not kept:
        return None
    recipe = _REMEDIES[kept[rng.integers(len(kept))]]

    def difference(rows: Rows, count: int) -> np.ndarray:
        seeds = _draw_seeds(rng, count)
        return np.stack([_right(recipe, train, rows, seed) - _right({}, train, rows, seed) for seed in seeds])

    interval = _judged(test[1]).interval(difference(test, _SEEDS), bonferroni(len(kept)))
    return float(difference(others, _TRUE_SEEDS).mean()), interval


def _keeps_a_useless_remedy(rng: np.random.Generator) -> bool:
    train = _draw_rows(rng, _TRAINING_ROWS)
    return bool(_keep(rng, train, {str(number): {} for number in range(len(_REMEDIES))}))


def _does_harm(rng: np.random.Generator) -> bool | None:
    found = _audit(rng)
    return None if found is None else found[0] <= 0


def _covers_the_effect(rng: np.random.Generator) -> bool | None:
    found = _audit(rng)
    return None if found is None else bool(found[1][1] <= found[0] <= found[1][2])


SIMULATIONS = (
    Simulation(
        claim="a kept remedy helps",
        setting="5 remedies; an alarm is a kept one that does not help on other rows",
        kind="false alarms",
        draw=_does_harm,
        promised=0.05,
        draws=700,
        quick=20,
    ),
    Simulation(
        claim="a remedy is kept",
        setting="5 remedies without effect",
        kind="false alarms",
        draw=_keeps_a_useless_remedy,
        nominal=0.05,
        promised=0.05,
        draws=300,
        quick=20,
    ),
    Simulation(
        claim="95 % interval of a kept remedy's effect, on test rows",
        setting="5 remedies, 5 seeds and 30 test rows",
        kind="coverage",
        draw=_covers_the_effect,
        nominal=0.95,
        promised=0.95,
        draws=250,
        quick=20,
    ),
)

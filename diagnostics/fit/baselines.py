"""Baselines that cost nothing, of scikit-learn: what any model has to beat."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
import numpy as np
import threadpoolctl
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif, f_regression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from data import subsets
from data.pool import Pool
from diagnostics.scores import by_row
from diagnostics.transfer.encoders import raw_inputs
from diagnostics.transfer.probes import PENALTIES, RIDGE_PENALTIES, TFIDF_PENALTIES

# At most so many numbers are fitted to, and so many rows; few wide rows still are this many.
_MOST_NUMBERS, _MOST_ROWS, _LEAST_ROWS = 5_000_000, 5_000, 1_000
# Judged on.
_MOST_JUDGED = 10_000
# Words and pairs of words of texts, and columns that a single tree chooses from.
_MOST_WORDS, _MOST_COLUMNS = 5_000, 256
_FOLDS, _TREES, _MOST_ITERATIONS = 3, 200, 300
Inputs = Any
"""(n, d) float32, dense or sparse."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Baseline:
    """What a simple model came to.

    Attributes:
      name: of it, as in "a random forest".
      train: (r,) for each row it was fitted to whether it is right, or the squared error.
      held_out: (m,) the same for the rows it is judged on.
    """

    name: str
    train: np.ndarray
    held_out: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Baselines:
    """All of them.

    Attributes:
      train: (r,) positions in the pool that they were fitted to.
      held_out: (m,) positions that they are judged on.
      found: each of them; the first looks at no inputs.
    """

    train: np.ndarray
    held_out: np.ndarray
    found: tuple[Baseline, ...]


def fit(
    config: ml_collections.ConfigDict, pool: Pool, train: np.ndarray, held_out: np.ndarray, *, seed: int
) -> Baselines:
    """Fits the majority (or mean), logistic (or ridge) regression, a pruned decision tree and a random forest.

    They read pixels (averaged down to 32 a side), columns with one-hot codes, or of texts TF-IDF of words and pairs of
    words; see `diagnostics.transfer.encoders.raw_inputs` and `diagnostics.transfer.probes`. The strengths of penalty
    and of cost-complexity pruning (Breiman et al. 1984, chapter 3) are chosen by cross-validation within the rows they
    are fitted to. These are at most 5,000, fewer where rows are wide; they are judged on at most 10,000.

    Args:
      config: the whole config.
      pool: of the set.
      train: positions to fit to, of which those of weight 0 are left out.
      held_out: positions to judge on, likewise.
      seed: of the choice of rows, the folds and the forest.
    """
    classification = pool.features.task == "classification"
    train = _some(pool, train, _rows(pool), seed)
    held_out = _some(pool, held_out, _MOST_JUDGED, seed)
    known, asked = _inputs(config, pool, train, held_out)
    labels = pool.labels[train]
    # Trees are fitted in threads of their own, matrices of this size by one core.
    with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
        # After so many iterations a baseline is as good as it gets.
        warnings.simplefilter("ignore", ConvergenceWarning)
        predictors: dict[str, Predictor] = {"majority" if classification else "mean": _constant(labels, classification)}
        if not classification or len(np.unique(labels)) > 1:
            for name, make in _MODELS[pool.features.task].items():
                predictors[name] = make(known, labels, seed)
        found = []
        for name, predict in predictors.items():
            own, others = (predict(inputs) for inputs in (known, asked))
            # Classes as certain probabilities, so that they are judged as those of any model.
            own, others = (_outputs(values, pool.features.num_outputs, classification) for values in (own, others))
            found.append(
                Baseline(
                    name=name,
                    train=by_row(own, labels, pool.features.task),
                    held_out=by_row(others, pool.labels[held_out], pool.features.task),
                )
            )
    return Baselines(train=train, held_out=held_out, found=tuple(found))


Predictor = Callable[[Inputs], np.ndarray]


def logistic(inputs: Inputs, labels: np.ndarray, seed: int) -> Predictor:
    """Logistic regression, the penalty chosen by cross-validation."""
    sparse = hasattr(inputs, "tocsr")
    penalties = TFIDF_PENALTIES if sparse else PENALTIES
    pipeline = _scaled(LogisticRegression(max_iter=_MOST_ITERATIONS), sparse)
    return _search(pipeline, {"model__C": penalties}, _dealt(labels, True, seed), inputs, labels)


def ridge(inputs: Inputs, labels: np.ndarray, seed: int) -> Predictor:
    """Ridge regression, the penalty chosen by cross-validation."""
    sparse = hasattr(inputs, "tocsr")
    model = Ridge(solver="sparse_cg") if sparse else Ridge()
    penalties = tuple(1 / penalty for penalty in TFIDF_PENALTIES) if sparse else RIDGE_PENALTIES
    return _search(_scaled(model, sparse), {"model__alpha": penalties}, _dealt(labels, False, seed), inputs, labels)


def pruned_tree(inputs: Inputs, labels: np.ndarray, seed: int, *, classification: bool) -> Predictor:
    """A decision tree, its cost-complexity pruning chosen by cross-validation, on at most 256 columns, by F-test."""
    kind = DecisionTreeClassifier if classification else DecisionTreeRegressor
    steps: list[tuple[str, Any]] = []
    if inputs.shape[1] > _MOST_COLUMNS:
        steps = [("columns", SelectKBest(f_classif if classification else f_regression, k=_MOST_COLUMNS))]
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        # Of columns that never change there is no F.
        warnings.simplefilter("ignore")
        chosen = steps[0][1].fit_transform(inputs, labels) if steps else inputs
        path = kind(random_state=seed).cost_complexity_pruning_path(chosen, labels)
        pipeline = Pipeline([*steps, ("model", kind(random_state=seed))])
        dealt = _dealt(labels, classification, seed)
        return _search(pipeline, {"model__ccp_alpha": _strengths(path.ccp_alphas)}, dealt, inputs, labels)


def forest(inputs: Inputs, labels: np.ndarray, seed: int, *, classification: bool) -> Predictor:
    """A random forest of 200 trees."""
    kind = RandomForestClassifier if classification else RandomForestRegressor
    features = "sqrt" if classification else 1 / 3
    model = kind(_TREES, max_features=features, random_state=seed, n_jobs=len(os.sched_getaffinity(0)))
    return model.fit(inputs, labels).predict


_MODELS: dict[str, dict[str, Callable[[Inputs, np.ndarray, int], Predictor]]] = {
    "classification": {
        "logistic regression": logistic,
        "decision tree": lambda *own: pruned_tree(*own, classification=True),
        "random forest": lambda *own: forest(*own, classification=True),
    },
    "regression": {
        "ridge regression": ridge,
        "decision tree": lambda *own: pruned_tree(*own, classification=False),
        "random forest": lambda *own: forest(*own, classification=False),
    },
}


def _strengths(thresholds: np.ndarray) -> np.ndarray:
    """Strengths of pruning that are tried: none, and those that leave about 1, 2, 4, 8, ... splits of the whole tree.

    Between two thresholds the tree is the same: their geometric mean stands for what lies between (Breiman et al.).
    """
    thresholds = np.unique(np.maximum(thresholds, 0.0))
    between = np.sqrt(thresholds[:-1] * thresholds[1:])[::-1]
    places = 2 ** np.arange(int(np.log2(len(between))) + 1 if len(between) else 0) - 1
    return np.unique([0.0, *between[places]])


def _constant(labels: np.ndarray, classification: bool) -> Predictor:
    value = np.bincount(labels).argmax() if classification else labels.mean(dtype=np.float64)
    return lambda inputs: np.full(inputs.shape[0], value)


def _scaled(model: BaseEstimator, sparse: bool) -> Pipeline:
    """Features standardised; TF-IDF, whose rows have unit length, as it is."""
    return Pipeline([("scale", "passthrough" if sparse else StandardScaler()), ("model", model)])


def _search(pipeline: Pipeline, grid: dict, dealt: Any, inputs: Inputs, labels: np.ndarray) -> Predictor:
    if dealt is None:  # Too few rows to choose by: the first of what would be tried.
        pipeline.set_params(**{name: values[0] for name, values in grid.items()})
        return pipeline.fit(inputs, labels).predict
    return GridSearchCV(pipeline, grid, cv=dealt).fit(inputs, labels).predict


def _dealt(labels: np.ndarray, classification: bool, seed: int) -> Any:
    """Folds to choose by, or None where rows, or those of a class, are too few."""
    least = np.unique(labels, return_counts=True)[1].min() if classification else len(labels)
    if len(labels) < 2 * _FOLDS:
        return None
    stratified = classification and least >= _FOLDS
    kind = StratifiedKFold if stratified else KFold
    dealt = list(kind(_FOLDS, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels))
    if classification and any(len(np.unique(labels[train])) < 2 for train, _ in dealt):
        return None
    return dealt


def _outputs(values: np.ndarray, outputs: int, classification: bool) -> np.ndarray:
    return np.eye(outputs)[values.astype(np.int64)] if classification else values[:, None]


def _rows(pool: Pool) -> int:
    wide = _MOST_WORDS if pool.features.kind == "text" else int(np.prod(pool.features.input_shape))
    return int(np.clip(_MOST_NUMBERS // wide, _LEAST_ROWS, _MOST_ROWS))


def _some(pool: Pool, positions: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many positions that have a weight, in order; of classes in nearly their shares."""
    there = positions[pool.weights[positions] > 0]
    return np.sort(there[subsets.nested_order(pool.labels[there], seed=seed)[:most]])


def _inputs(
    config: ml_collections.ConfigDict, pool: Pool, train: np.ndarray, held_out: np.ndarray
) -> tuple[Inputs, Inputs]:
    """What the models read, fitted on the training rows alone."""
    if pool.features.kind == "text":
        return _words([pool.texts[row] for row in train], [pool.texts[row] for row in held_out])
    fitted = pool.fit(train, config.data)
    return raw_inputs(pool, train, fitted), raw_inputs(pool, held_out, fitted)


def _words(known: Sequence[str], asked: Sequence[str]) -> tuple[Inputs, Inputs]:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=_MOST_WORDS)
    try:
        return vectorizer.fit_transform(known), vectorizer.transform(asked)
    except ValueError:  # No words in the texts: a column that says nothing.
        return np.zeros((len(known), 1)), np.zeros((len(asked), 1))

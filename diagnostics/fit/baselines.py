"""Cheap baselines from scikit-learn that any model has to beat."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
import numpy as np
import threadpoolctl
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif, f_regression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from data import subsets
from data.pool import Pool
from diagnostics.scores import by_row
from diagnostics.transfer.encoders import raw_inputs
from diagnostics.transfer.probes import PENALTIES, RIDGE_PENALTIES, TFIDF_PENALTIES

# Limits of the numbers and rows that baselines are fitted to; wide rows are never fewer than the last.
_MOST_NUMBERS, _MOST_ROWS, _LEAST_ROWS = 5_000_000, 5_000, 1_000
# Rows that baselines are judged on.
_MOST_JUDGED = 10_000
# Words and pairs of words of texts, and columns that a single tree may use.
_MOST_WORDS, _MOST_COLUMNS = 5_000, 256
_FOLDS, _TREES, _MOST_ITERATIONS = 3, 200, 300
Inputs = Any
"""(n, d) float32, dense or sparse."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Baseline:
    """The scores of a simple model.

    Attributes:
      name: as in "a random forest".
      train: (r,) whether it is right on each row it was fitted to, or the squared error.
      out_of_fold: (r,) the same of models that were not fitted to the row; nan if there are too few rows for folds.
      held_out: (m,) the same for the rows it is judged on.
    """

    name: str
    train: np.ndarray
    out_of_fold: np.ndarray
    held_out: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Baselines:
    """All baselines.

    Attributes:
      train: (r,) positions in the pool that they were fitted to.
      held_out: (m,) positions that they are judged on.
      found: the baselines; the first ignores the inputs.
    """

    train: np.ndarray
    held_out: np.ndarray
    found: tuple[Baseline, ...]


def fit(
    config: ml_collections.ConfigDict, pool: Pool, train: np.ndarray, held_out: np.ndarray, *, seed: int
) -> Baselines:
    """Fits the majority (or mean), logistic (or ridge) regression, a pruned decision tree and a random forest.

    They read pixels (averaged down to 32 a side), columns with one-hot codes, or TF-IDF of words and pairs of words;
    see `diagnostics.transfer.encoders.raw_inputs` and `diagnostics.transfer.probes`. Penalties and the strength of
    cost-complexity pruning (Breiman et al. 1984, chapter 3) are chosen by cross-validation within the rows they are
    fitted to. These are at most 5,000, fewer if rows are wide; they are judged on at most 10,000. Scores out of fold
    are of the same folds with the chosen value, and those of the forest out of bag (Breiman 2001, section 3.1).

    Args:
      config: the whole config.
      pool: of the set.
      train: positions to fit to; those of weight 0 are left out.
      held_out: positions to judge on, likewise.
      seed: of the choice of rows, the folds and the forest.
    """
    classification = pool.features.task == "classification"
    train = _sample(pool, train, _rows(pool), seed)
    held_out = _sample(pool, held_out, _MOST_JUDGED, seed)
    known, asked = _inputs(config, pool, train, held_out)
    labels = pool.labels[train]
    # Trees have their own threads; matrices of this size are best multiplied by one core.
    with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
        # A baseline need not converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        predictors: dict[str, Predictor] = {"majority" if classification else "mean": _constant(labels, classification)}
        if not classification or len(np.unique(labels)) > 1:
            for name, make in _MODELS[pool.features.task].items():
                predictors[name] = make(known, labels, seed)
        found = []
        for name, predict in predictors.items():
            found.append(_score(pool, name, predict, (known, labels), (asked, pool.labels[held_out])))
    return Baselines(train=train, held_out=held_out, found=tuple(found))


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """A fitted model: called with inputs (n, d), it returns predictions (n,).

    Attributes:
      predict: the function.
      out_of_fold: (r,) predictions for the rows it was fitted to, by models that were not fitted to them; None if there
        are too few rows for folds.
    """

    predict: Callable[[Inputs], np.ndarray]
    out_of_fold: np.ndarray | None

    def __call__(self, inputs: Inputs) -> np.ndarray:
        """Predicts classes or values (n,)."""
        return self.predict(inputs)


def fit_logistic(inputs: Inputs, labels: np.ndarray, seed: int) -> Predictor:
    """Fits logistic regression, with the penalty chosen by cross-validation."""
    sparse = hasattr(inputs, "tocsr")
    penalties = TFIDF_PENALTIES if sparse else PENALTIES
    pipeline = _make_pipeline(LogisticRegression(max_iter=_MOST_ITERATIONS), sparse)
    return _search(pipeline, {"model__C": penalties}, _make_folds(labels, True, seed), inputs, labels)


def fit_ridge(inputs: Inputs, labels: np.ndarray, seed: int) -> Predictor:
    """Fits ridge regression, with the penalty chosen by cross-validation."""
    sparse = hasattr(inputs, "tocsr")
    model = Ridge(solver="sparse_cg") if sparse else Ridge()
    penalties = tuple(1 / penalty for penalty in TFIDF_PENALTIES) if sparse else RIDGE_PENALTIES
    return _search(
        _make_pipeline(model, sparse), {"model__alpha": penalties}, _make_folds(labels, False, seed), inputs, labels
    )


def fit_tree(inputs: Inputs, labels: np.ndarray, seed: int, *, classification: bool) -> Predictor:
    """Fits a decision tree on the best 256 columns by F-test, with pruning chosen by cross-validation."""
    kind = DecisionTreeClassifier if classification else DecisionTreeRegressor
    steps: list[tuple[str, Any]] = []
    if inputs.shape[1] > _MOST_COLUMNS:
        steps = [("columns", SelectKBest(f_classif if classification else f_regression, k=_MOST_COLUMNS))]
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        # Constant columns have no F statistic.
        warnings.simplefilter("ignore")
        chosen = steps[0][1].fit_transform(inputs, labels) if steps else inputs
        path = kind(random_state=seed).cost_complexity_pruning_path(chosen, labels)
        pipeline = Pipeline([*steps, ("model", kind(random_state=seed))])
        folds = _make_folds(labels, classification, seed)
        return _search(pipeline, {"model__ccp_alpha": _strengths(path.ccp_alphas)}, folds, inputs, labels)


def fit_forest(inputs: Inputs, labels: np.ndarray, seed: int, *, classification: bool) -> Predictor:
    """Fits a random forest of 200 trees."""
    kind = RandomForestClassifier if classification else RandomForestRegressor
    features = "sqrt" if classification else 1 / 3
    threads = len(os.sched_getaffinity(0))
    model = kind(_TREES, max_features=features, random_state=seed, n_jobs=threads, oob_score=True)
    # Of very few rows, some may be in the sample of each tree.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(inputs, labels)
    if not classification:
        return Predictor(model.predict, model.oob_prediction_)
    return Predictor(model.predict, model.classes_[np.nan_to_num(model.oob_decision_function_).argmax(axis=1)])


_MODELS: dict[str, dict[str, Callable[[Inputs, np.ndarray, int], Predictor]]] = {
    "classification": {
        "logistic regression": fit_logistic,
        "decision tree": lambda *own: fit_tree(*own, classification=True),
        "random forest": lambda *own: fit_forest(*own, classification=True),
    },
    "regression": {
        "ridge regression": fit_ridge,
        "decision tree": lambda *own: fit_tree(*own, classification=False),
        "random forest": lambda *own: fit_forest(*own, classification=False),
    },
}


def _strengths(thresholds: np.ndarray) -> np.ndarray:
    """Returns the strengths of pruning to try: none, and those that leave about 1, 2, 4, 8, ... splits of the tree.

    Between two thresholds the tree is the same, so their geometric mean stands for the range (Breiman et al.).
    """
    thresholds = np.unique(np.maximum(thresholds, 0.0))
    between = np.sqrt(thresholds[:-1] * thresholds[1:])[::-1]
    places = 2 ** np.arange(int(np.log2(len(between))) + 1 if len(between) else 0) - 1
    return np.unique([0.0, *between[places]])


def _constant(labels: np.ndarray, classification: bool) -> Predictor:
    value = np.bincount(labels).argmax() if classification else labels.mean(dtype=np.float64)
    # A row more or less hardly moves it.
    return Predictor(lambda inputs: np.full(inputs.shape[0], value), np.full(len(labels), value))


def _make_pipeline(model: BaseEstimator, sparse: bool) -> Pipeline:
    """Standardises features, but not TF-IDF, whose rows have unit length."""
    return Pipeline([("scale", "passthrough" if sparse else StandardScaler()), ("model", model)])


def _search(pipeline: Pipeline, grid: dict, folds: Any, inputs: Inputs, labels: np.ndarray) -> Predictor:
    if folds is None:  # Too few rows for a choice: the first value.
        pipeline.set_params(**{name: values[0] for name, values in grid.items()})
        return Predictor(pipeline.fit(inputs, labels).predict, None)
    search = GridSearchCV(pipeline, grid, cv=folds).fit(inputs, labels)
    return Predictor(search.predict, cross_val_predict(clone(search.best_estimator_), inputs, labels, cv=folds))


def _score(
    pool: Pool, name: str, predict: Predictor, known: tuple[Inputs, np.ndarray], asked: tuple[Inputs, np.ndarray]
) -> Baseline:
    """Scores a model on the inputs and labels that it was fitted to, and on those that it is judged on."""
    outputs, task = pool.features.num_outputs, pool.features.task

    def score(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
        # Classes become one-hot probabilities, to be scored like those of any model.
        return by_row(_outputs(values, outputs, task == "classification"), labels, task)

    unseen = np.full(len(known[1]), np.nan)
    if predict.out_of_fold is not None:
        unseen = score(predict.out_of_fold, known[1])
    return Baseline(
        name=name,
        train=score(predict(known[0]), known[1]),
        out_of_fold=unseen,
        held_out=score(predict(asked[0]), asked[1]),
    )


def _make_folds(labels: np.ndarray, classification: bool, seed: int) -> Any:
    """Makes folds for a choice; None if there are too few rows, or too few of a class."""
    least = np.unique(labels, return_counts=True)[1].min() if classification else len(labels)
    if len(labels) < 2 * _FOLDS:
        return None
    stratified = classification and least >= _FOLDS
    kind = StratifiedKFold if stratified else KFold
    folds = list(kind(_FOLDS, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels))
    if classification and any(len(np.unique(labels[train])) < 2 for train, _ in folds):
        return None
    return folds


def _outputs(values: np.ndarray, outputs: int, classification: bool) -> np.ndarray:
    return np.eye(outputs)[values.astype(np.int64)] if classification else values[:, None]


def _rows(pool: Pool) -> int:
    wide = _MOST_WORDS if pool.features.kind == "text" else int(np.prod(pool.features.input_shape))
    return int(np.clip(_MOST_NUMBERS // wide, _LEAST_ROWS, _MOST_ROWS))


def _sample(pool: Pool, positions: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Samples at most `most` positions with a weight, sorted, stratified by class."""
    there = positions[pool.weights[positions] > 0]
    return np.sort(there[subsets.nested_order(pool.labels[there], seed=seed)[:most]])


def _inputs(
    config: ml_collections.ConfigDict, pool: Pool, train: np.ndarray, held_out: np.ndarray
) -> tuple[Inputs, Inputs]:
    """Returns what the models read, fitted on the training rows alone."""
    if pool.features.kind == "text":
        return _words([pool.texts[row] for row in train], [pool.texts[row] for row in held_out])
    fitted = pool.fit(train, config.data)
    return raw_inputs(pool, train, fitted), raw_inputs(pool, held_out, fitted)


def _words(known: Sequence[str], asked: Sequence[str]) -> tuple[Inputs, Inputs]:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=_MOST_WORDS)
    try:
        return vectorizer.fit_transform(known), vectorizer.transform(asked)
    except ValueError:  # No words in the texts: a constant column.
        return np.zeros((len(known), 1)), np.zeros((len(asked), 1))

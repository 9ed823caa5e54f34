"""Scores of simple scikit-learn models on features, in folds: linear probes, nearest neighbours, TF-IDF of texts.

Scores are accuracies, or for a regression shares of variance explained (R2) on the rows that a fold holds out.
"""

import concurrent.futures
import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import threadpoolctl
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from data import folds
from data.folds import Fold
from plumbline import UserError

NEIGHBOURS = 10
"""Number of neighbours, which have equal votes."""
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties (C) to try for logistic regression, on standardised features."""
TFIDF_PENALTIES = (0.1, 1.0, 10.0, 100.0)
"""The same on TF-IDF, whose rows have unit length."""
RIDGE_PENALTIES = (1e4, 1e3, 1e2, 1e1, 1.0, 1e-1)
"""Penalties to try for ridge regression, on standardised features; the strongest first."""

_INNER_FOLDS = 3
_MOST_ITERATIONS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ProbeSplits:
    """Labels and cross-validation splits, the same for all candidates.

    Attributes:
      labels: (n,) int32 classes, or float32 for regression.
      task: "classification" or "regression".
      kind: of the folds, one of `data.folds.KINDS`.
      folds: training and held-out rows of each fold.
      inner: for each fold, splits of its training rows (by their place among them) that choose the penalty.
    """

    labels: np.ndarray
    task: str
    kind: str
    folds: list[Fold]
    inner: list[list[Fold]]

    @property
    def overlap(self) -> float:
        """Held-out rows over training rows of a fold; see `diagnostics.statistics.mean_interval`."""
        return 1 / (len(self.folds) - 1)


def make_splits(
    labels: np.ndarray,
    groups: np.ndarray | None,
    task: str,
    *,
    count: int,
    seed: int,
    class_names: Sequence[str] = (),
    aside: str = "",
) -> ProbeSplits:
    """Splits rows into folds: of whole groups if there are several, else by class, or shuffled for a regression.

    Args:
      labels: (n,).
      groups: (n,) integers, or None.
      task: "classification" or "regression".
      count: of folds.
      seed: of the shuffling.
      class_names: for messages.
      aside: for messages about too few groups.

    Raises:
      UserError: there are too few rows, groups or rows of a class for that many folds, or a fold trains on one class.
    """
    classification = task == "classification"
    plain = "stratified" if classification else "shuffled"
    kind = "group" if groups is not None and len(np.unique(groups)) > 1 else plain
    if not classification and len(labels) < 2 * count:
        raise UserError(f"--folds: {count} given, but there are {len(labels)} rows; each fold has to hold out two")
    if classification and len(np.unique(labels)) < 2:
        raise UserError("data.source: all rows to be scored are of one class; there is nothing to classify")
    parts = folds.split(labels, groups, count=count, kind=kind, seed=seed, class_names=class_names, aside=aside)
    if classification and any(len(np.unique(labels[train])) < 2 for train, _ in parts):
        raise UserError("--folds: a fold of whole groups trains on one class alone; give more folds")
    inner = []
    for train, _ in parts:
        own = None if groups is None else groups[train]
        inner.append(_split_inner(labels[train], own, kind, plain, seed))
    return ProbeSplits(labels=labels, task=task, kind=kind, folds=parts, inner=inner)


def score_linear_probe(features: np.ndarray, splits: ProbeSplits) -> np.ndarray:
    """Scores logistic or ridge regression (K,) on held-out rows, on features standardised on the training rows.

    The penalty is chosen within the training rows by the same score; among ties the strongest.

    Args:
      features: (n, d).
      splits: K folds.
    """
    if splits.task == "classification":
        model, name, penalties = LogisticRegression(max_iter=_MOST_ITERATIONS), "C", PENALTIES
    else:
        model, name, penalties = Ridge(), "alpha", RIDGE_PENALTIES
    pipeline = Pipeline([("scale", StandardScaler()), ("model", model)])
    features = features.astype(np.float64)

    def score(number: int) -> float:
        train, held_out = splits.folds[number]
        search = GridSearchCV(pipeline, {f"model__{name}": penalties}, cv=splits.inner[number])
        search.fit(features[train], splits.labels[train])
        return search.score(features[held_out], splits.labels[held_out])

    return _in_folds(score, splits)


def score_neighbours(features: np.ndarray, splits: ProbeSplits) -> np.ndarray:
    """Scores the vote of the nearest training rows (K,) by the cosine, on held-out rows.

    Features are standardised on the training rows; otherwise their common mean would make all cosines 1.

    Args:
      features: (n, d).
      splits: K folds.
    """
    kind = KNeighborsClassifier if splits.task == "classification" else KNeighborsRegressor

    def score(number: int) -> float:
        train, held_out = splits.folds[number]
        nearest = kind(min(NEIGHBOURS, len(train)), metric="cosine", algorithm="brute")
        pipeline = Pipeline([("scale", StandardScaler()), ("nearest", nearest)])
        pipeline.fit(features[train], splits.labels[train])
        return pipeline.score(features[held_out], splits.labels[held_out])

    return _in_folds(score, splits)


def score_tfidf_probe(texts: Sequence[str], splits: ProbeSplits) -> np.ndarray:
    """Scores logistic or ridge regression (K,) on held-out rows, on TF-IDF of words and pairs of words.

    Term frequencies are sublinear; vocabulary and document frequencies come from the training rows of a fold, and the
    penalty is chosen within them.

    Args:
      texts: (n,).
      splits: K folds.
    """
    if splits.task == "classification":
        model, grid = LogisticRegression(max_iter=_MOST_ITERATIONS), {"C": TFIDF_PENALTIES}
    else:
        model, grid = Ridge(solver="sparse_cg"), {"alpha": tuple(1 / penalty for penalty in TFIDF_PENALTIES)}

    def score(number: int) -> float:
        train, held_out = splits.folds[number]
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        try:
            known = vectorizer.fit_transform([texts[row] for row in train])
        except ValueError:
            raise UserError("data.text: no words in the texts, so there is no TF-IDF to compare with") from None
        search = GridSearchCV(model, grid, cv=splits.inner[number]).fit(known, splits.labels[train])
        return search.score(vectorizer.transform([texts[row] for row in held_out]), splits.labels[held_out])

    return _in_folds(score, splits)


def _split_inner(labels: np.ndarray, groups: np.ndarray | None, kind: str, plain: str, seed: int) -> list[Fold]:
    """Splits like the outer folds if there are enough groups or rows, else shuffled."""
    split = functools.partial(folds.split, labels, seed=seed, count=_INNER_FOLDS)
    if kind == "group" and len(np.unique(groups)) >= _INNER_FOLDS:
        parts = split(groups, kind=kind)
    elif plain == "stratified" and np.unique(labels, return_counts=True)[1].min() >= _INNER_FOLDS:
        parts = split(None, kind=plain)
    else:
        parts = folds.split(labels, None, seed=seed, count=min(_INNER_FOLDS, len(labels)), kind="shuffled")
    if plain == "stratified":
        # If a class is small, a part may have the other class only, and no model can be fitted.
        parts = [fold for fold in parts if len(np.unique(labels[fold[0]])) > 1] or [(np.arange(len(labels)),) * 2]
    return parts


def _in_folds(score: Callable[[int], float], splits: ProbeSplits) -> np.ndarray:
    """Computes the score of each fold. Folds run in parallel, as matrices of this size do not use several cores."""
    with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
        # A probe need not converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            return np.array(list(pool.map(score, range(len(splits.folds)))))

"""What simple models of scikit-learn make of features, in folds: linear probes, nearest neighbours, TF-IDF of texts.

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
"""How many neighbours vote, each the same."""
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the penalty (C) of logistic regression that are tried, on standardised features."""
TFIDF_PENALTIES = (0.1, 1.0, 10.0, 100.0)
"""The same on TF-IDF, whose rows have unit length."""
RIDGE_PENALTIES = (1e4, 1e3, 1e2, 1e1, 1.0, 1e-1)
"""Strengths of the penalty of ridge regression, on standardised features; the strongest first."""

_INNER_FOLDS = 3
_MOST_ITERATIONS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Exam:
    """Labels, and which rows answer for which: the same for all that are compared.

    Attributes:
      labels: (n,) int32 classes, or float32 for regression.
      task: "classification" or "regression".
      kind: of the folds, one of `data.folds.KINDS`.
      folds: rows that train and rows that are held out.
      inner: for each fold, how its training rows (by their place among them) are dealt to choose a penalty.
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


def deal(
    labels: np.ndarray,
    groups: np.ndarray | None,
    task: str,
    *,
    count: int,
    seed: int,
    class_names: Sequence[str] = (),
    aside: str = "",
) -> Exam:
    """Deals rows into folds: of whole groups where there are several, else by class, or shuffled for a regression.

    Args:
      labels: (n,).
      groups: (n,) integers, or None.
      task: "classification" or "regression".
      count: of folds.
      seed: of the shuffling.
      class_names: for messages.
      aside: for messages about too few groups.

    Raises:
      UserError: there are too few rows, groups or rows of a class for so many folds, or a fold trains on one class.
    """
    classification = task == "classification"
    plain = "stratified" if classification else "shuffled"
    kind = "group" if groups is not None and len(np.unique(groups)) > 1 else plain
    if not classification and len(labels) < 2 * count:
        raise UserError(f"--folds: {count} given, but there are {len(labels)} rows; each fold has to hold out two")
    if classification and len(np.unique(labels)) < 2:
        raise UserError("data.source: all rows to be scored are of one class; there is nothing to tell apart")
    dealt = folds.split(labels, groups, count=count, kind=kind, seed=seed, class_names=class_names, aside=aside)
    if classification and any(len(np.unique(labels[train])) < 2 for train, _ in dealt):
        raise UserError("--folds: a fold of whole groups trains on one class alone; give more folds")
    inner = []
    for train, _ in dealt:
        own = None if groups is None else groups[train]
        inner.append(_deal_inner(labels[train], own, kind, plain, seed))
    return Exam(labels=labels, task=task, kind=kind, folds=dealt, inner=inner)


def linear_probe(features: np.ndarray, exam: Exam) -> np.ndarray:
    """Scores (K,) on the rows held out of logistic or ridge regression on features standardised on the training rows.

    The penalty is chosen within the training rows, by the same score; of those alike the strongest.

    Args:
      features: (n, d).
      exam: K folds.
    """
    if exam.task == "classification":
        model, name, penalties = LogisticRegression(max_iter=_MOST_ITERATIONS), "C", PENALTIES
    else:
        model, name, penalties = Ridge(), "alpha", RIDGE_PENALTIES
    pipeline = Pipeline([("scale", StandardScaler()), ("model", model)])
    features = features.astype(np.float64)

    def score(number: int) -> float:
        train, held_out = exam.folds[number]
        search = GridSearchCV(pipeline, {f"model__{name}": penalties}, cv=exam.inner[number])
        search.fit(features[train], exam.labels[train])
        return search.score(features[held_out], exam.labels[held_out])

    return _in_folds(score, exam)


def neighbours(features: np.ndarray, exam: Exam) -> np.ndarray:
    """Scores (K,) on the rows held out of the vote of the nearest training rows, by the cosine.

    Features are standardised on the training rows, so that what all rows have in common does not make all cosines 1.

    Args:
      features: (n, d).
      exam: K folds.
    """
    kind = KNeighborsClassifier if exam.task == "classification" else KNeighborsRegressor

    def score(number: int) -> float:
        train, held_out = exam.folds[number]
        nearest = kind(min(NEIGHBOURS, len(train)), metric="cosine", algorithm="brute")
        pipeline = Pipeline([("scale", StandardScaler()), ("nearest", nearest)])
        pipeline.fit(features[train], exam.labels[train])
        return pipeline.score(features[held_out], exam.labels[held_out])

    return _in_folds(score, exam)


def tfidf_probe(texts: Sequence[str], exam: Exam) -> np.ndarray:
    """Scores (K,) on the rows held out of logistic or ridge regression on TF-IDF of words and pairs of words.

    Counts are taken sublinearly; words and their rarity are those of the training rows of a fold. The penalty is
    chosen within them.

    Args:
      texts: (n,).
      exam: K folds.
    """
    if exam.task == "classification":
        model, grid = LogisticRegression(max_iter=_MOST_ITERATIONS), {"C": TFIDF_PENALTIES}
    else:
        model, grid = Ridge(solver="sparse_cg"), {"alpha": tuple(1 / penalty for penalty in TFIDF_PENALTIES)}

    def score(number: int) -> float:
        train, held_out = exam.folds[number]
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        try:
            known = vectorizer.fit_transform([texts[row] for row in train])
        except ValueError:
            raise UserError("data.text: no words in the texts, so there is no TF-IDF to compare with") from None
        search = GridSearchCV(model, grid, cv=exam.inner[number]).fit(known, exam.labels[train])
        return search.score(vectorizer.transform([texts[row] for row in held_out]), exam.labels[held_out])

    return _in_folds(score, exam)


def _deal_inner(labels: np.ndarray, groups: np.ndarray | None, kind: str, plain: str, seed: int) -> list[Fold]:
    """As the outer folds where there are groups or rows enough, else plainly shuffled."""
    split = functools.partial(folds.split, labels, seed=seed, count=_INNER_FOLDS)
    if kind == "group" and len(np.unique(groups)) >= _INNER_FOLDS:
        dealt = split(groups, kind=kind)
    elif plain == "stratified" and np.unique(labels, return_counts=True)[1].min() >= _INNER_FOLDS:
        dealt = split(None, kind=plain)
    else:
        dealt = folds.split(labels, None, seed=seed, count=min(_INNER_FOLDS, len(labels)), kind="shuffled")
    if plain == "stratified":
        # Where a class is small, a part may be left with another alone, which no model is fitted to.
        dealt = [fold for fold in dealt if len(np.unique(labels[fold[0]])) > 1] or [(np.arange(len(labels)),) * 2]
    return dealt


def _in_folds(score: Callable[[int], float], exam: Exam) -> np.ndarray:
    """The score of each fold. Folds share out the cores: of a matrix this small, no core makes another faster."""
    with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
        # After so many iterations a probe is as good as it gets.
        warnings.simplefilter("ignore", ConvergenceWarning)
        with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            return np.array(list(pool.map(score, range(len(exam.folds)))))

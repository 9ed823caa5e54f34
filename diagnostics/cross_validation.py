"""Cross-validation: who trains on which fold, what was predicted for rows that took no part, and how sure that is."""

import dataclasses
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from data import folds, splitting
from data.pool import Pool
from diagnostics.statistics import Interval, clustered_interval, mean_interval, wilson_interval
from trainers.evaluation import overall
from trainers.members import Member, Outcome


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deal:
    """How rows are dealt into folds.

    Attributes:
      kind: one of `data.folds.KINDS`.
      count: number of folds; "leave_one_group_out" takes no notice of it.
      seeds: one deal and one training of each fold for each of them.
    """

    kind: str
    count: int
    seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OutOfFold:
    """What became of the trainings of a deal.

    Attributes:
      deal: how the rows were dealt.
      rows: (N,) positions in the pool, in the order of `rows_of`.
      fold: (S, N) the fold that held out each row, for each seed.
      predictions: (S, N, outputs) for each row by the model that it was held out from; nan where that one diverged.
      metrics: for each seed, for each fold, the overall metrics on the rows it held out; empty where it diverged.
      diverged: names of the trainings that did.
    """

    deal: Deal
    rows: np.ndarray
    fold: np.ndarray
    predictions: np.ndarray
    metrics: list[list[dict[str, float]]]
    diverged: list[str]

    def intervals(self) -> dict[str, Interval]:
        """Each metric's mean over folds with its 95 % t-interval, widened for the rows that their trainings share.

        Folds that are the same for every seed count once, with the mean over the seeds.
        """
        names = list(dict.fromkeys(name for each in self.metrics for figures in each for name in figures))
        overlap = 1 / (len(self.metrics[0]) - 1)
        return {name: mean_interval(self.values(name), overlap=overlap) for name in names}

    def values(self, metric: str) -> np.ndarray:
        """A metric's values: of each fold of each seed, or of each fold where all seeds have the same folds."""
        values = np.array([[figures.get(metric, np.nan) for figures in each] for each in self.metrics])
        if self.deal.kind == "leave_one_group_out":
            values = values[:, np.isfinite(values).all(axis=0)].mean(axis=0)
        return values[np.isfinite(values)]

    def scores(self, pool: Pool) -> np.ndarray:
        """For each row (N,) the mean over seeds of its accuracy (0 or 1), or for regression of its squared error."""
        labels = pool.labels[self.rows]
        if pool.features.task == "classification":
            scores = (self.predictions.argmax(axis=-1) == labels).astype(np.float64)
        else:
            scores = np.square(self.predictions[..., 0].astype(np.float64) - labels)
        return np.where(np.isfinite(self.predictions).all(axis=-1), scores, np.nan).mean(axis=0)

    def share(self, pool: Pool) -> Interval | None:
        """Accuracy over all rows with Wilson's 95 % interval; None for a regression, or if a training diverged."""
        if pool.features.task != "classification" or self.diverged:
            return None
        weights = pool.weights[self.rows].astype(np.float64)
        # Rows of unequal weight are worth fewer of equal weight (Kish 1965).
        count = weights.sum() ** 2 / np.square(weights).sum()
        return wilson_interval(np.average(self.scores(pool), weights=weights) * count, count)


def rows_of(pool: Pool) -> np.ndarray:
    """The rows that are dealt, as positions in the pool: training and validation rows together. No test row.

    They are in the order of the source, so that the folds do not depend on which rows the config sets apart for
    validation; those of another file or split come last.
    """
    positions = [rows for name, rows in pool.splits.items() if name != "test"]
    rows = np.concatenate(positions)
    if len(np.unique(pool.rows[rows])) < len(rows):
        return rows
    return rows[np.argsort(pool.rows[rows])]


def make_members(pool: Pool, config: ml_collections.ConfigDict, deal: Deal) -> list[Member]:
    """A training for each fold of each seed.

    Where the config sets "N percent" of the training rows apart for validation, so does each fold of its own.

    Args:
      pool: of the rows.
      config: the whole config.
      deal: how the rows are dealt.

    Raises:
      UserError: the rows cannot be dealt so.
    """
    rows = rows_of(pool)
    groups = None if pool.groups is None else pool.groups[rows]
    members = []
    for seed in deal.seeds:
        dealt = folds.split(
            pool.labels[rows],
            groups,
            count=deal.count,
            kind=deal.kind,
            seed=seed,
            class_names=pool.features.class_names,
        )
        for number, (train, held_out) in enumerate(dealt):
            train, validation = _set_apart(pool, config, rows[train], seed)
            members.append(
                Member(
                    name=f"{deal.kind}, seed {seed}, fold {number}",
                    overrides={},
                    seed=seed,
                    train=train,
                    held_out=rows[held_out],
                    validation=validation,
                )
            )
    return members


def gather(pool: Pool, deal: Deal, members: Sequence[Member], outcomes: Mapping[str, Outcome]) -> OutOfFold:
    """What became of the members of a deal.

    Args:
      pool: of the rows.
      deal: how they were dealt.
      members: what `make_members` made of the deal.
      outcomes: of at least these, with predictions.
    """
    rows = rows_of(pool)
    per_seed = len(members) // len(deal.seeds)
    fold = np.full((len(deal.seeds), len(rows)), -1, np.int32)
    place = np.full(len(pool.rows), -1)
    place[rows] = np.arange(len(rows))
    predictions = np.full((len(deal.seeds), len(rows), pool.features.num_outputs), np.nan, np.float32)
    metrics: list[list[dict[str, float]]] = [[] for _ in deal.seeds]
    for index, member in enumerate(members):
        seed, number = divmod(index, per_seed)
        outcome = outcomes[member.name]
        places = place[member.held_out]
        fold[seed, places] = number
        if outcome.predictions is not None:
            predictions[seed, places] = outcome.predictions
        metrics[seed].append(overall(outcome.metrics))
    diverged = [member.name for member in members if outcomes[member.name].status == "diverged"]
    return OutOfFold(deal=deal, rows=rows, fold=fold, predictions=predictions, metrics=metrics, diverged=diverged)


def optimism(pool: Pool, shuffled: OutOfFold, grouped: OutOfFold) -> Interval:
    """How much better shuffled folds look than folds of whole groups, row by row.

    In accuracy, or for a regression in mean squared error (how much smaller it looks). The interval is by the spread
    between groups: it is for new groups of the same kind, not for new rows of these.
    """
    difference = shuffled.scores(pool) - grouped.scores(pool)
    if pool.features.task == "regression":
        difference = -difference
    rows = shuffled.rows[np.isfinite(difference)]
    return clustered_interval(difference[np.isfinite(difference)], pool.groups[rows], pool.weights[rows])


def _set_apart(
    pool: Pool, config: ml_collections.ConfigDict, train: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation rows of a fold, as a single run would split what the fold leaves it to train on."""
    share = splitting.share(config.data.validation, "data.validation")
    if share is None:
        return train, np.zeros(0, np.int64)
    strata = pool.labels[train] if pool.features.task == "classification" else None
    groups = None if pool.groups is None else pool.groups[train]
    mask = splitting.held_out(share, strata, groups, len(train), seed=seed, field="data.validation")
    return train[~mask], train[mask]

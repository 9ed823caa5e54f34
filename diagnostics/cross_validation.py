"""Cross-validation: the trainings of all folds, their out-of-fold predictions, and intervals of their figures."""

import dataclasses
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from data import folds, splitting
from data.pool import Pool
from diagnostics.scores import by_row, mean_of_rows
from diagnostics.statistics import Interval, clustered_interval, mean_interval, within
from trainers.populations.members import Member, Outcome
from trainers.run.evaluation import overall
from trainers.step.objectives import bounds

LEAST_VALUES = 3
"""Fewest values over folds for an interval; that of two values would extend 13 standard errors to either side."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splits:
    """How rows are split into folds.

    Attributes:
      kind: one of `data.folds.KINDS`.
      count: number of folds; ignored by "leave_one_group_out".
      seeds: each gives a split, and a training of each fold.
    """

    kind: str
    count: int
    seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OutOfFold:
    """The results of a cross-validation.

    Attributes:
      splits: how the rows were split.
      rows: (N,) positions in the pool, in the order of `select_rows`.
      fold: (S, N) the fold that held out each row, for each seed.
      predictions: (S, N, outputs) for each row, by the model that did not train on it; nan if that diverged.
      metrics: for each seed and each fold, the overall metrics on its held-out rows; empty if it diverged.
      diverged: names of the trainings that diverged.
    """

    splits: Splits
    rows: np.ndarray
    fold: np.ndarray
    predictions: np.ndarray
    metrics: list[list[dict[str, float]]]
    diverged: list[str]

    def intervals(self) -> dict[str, Interval]:
        """Computes each metric's mean over folds with its 95 % t-interval, widened for shared training rows.

        Folds that are the same for every seed count once, with the mean over the seeds. Intervals are clipped to the
        range of the metric; for fewer than `LEAST_VALUES` values their bounds are nan.
        """
        names = list(dict.fromkeys(name for each in self.metrics for figures in each for name in figures))
        return {name: self._interval(name) for name in names}

    def values(self, metric: str) -> np.ndarray:
        """Returns a metric's values: of each fold of each seed, or of each fold if all seeds have the same folds."""
        values = np.array([[figures.get(metric, np.nan) for figures in each] for each in self.metrics])
        if self.splits.kind == "leave_one_group_out":
            values = values[:, np.isfinite(values).all(axis=0)].mean(axis=0)
        return values[np.isfinite(values)]

    def _interval(self, metric: str) -> Interval:
        values = self.values(metric)
        mean, low, high = mean_interval(values, overlap=1 / (len(self.metrics[0]) - 1))
        if len(values) < LEAST_VALUES:
            return (mean, np.nan, np.nan)
        return within((mean, low, high), *bounds(metric))

    def scores(self, pool: Pool) -> np.ndarray:
        """Returns for each row (N,) its accuracy (0 or 1) or squared error, averaged over the seeds."""
        return by_row(self.predictions, pool.labels[self.rows], pool.features.task).mean(axis=0)

    def share(self, pool: Pool) -> Interval | None:
        """Returns accuracy over all rows; None for a regression, or if a training diverged.

        Rows of a group are correlated, so the interval is from the variance between groups if the pool has any, also
        where folds are shuffled; otherwise it is Wilson's.
        """
        if pool.features.task != "classification" or self.diverged:
            return None
        groups = None if pool.groups is None else pool.groups[self.rows]
        return mean_of_rows(self.scores(pool), pool.weights[self.rows], groups, are_shares=True)


def select_rows(pool: Pool) -> np.ndarray:
    """Returns the rows to split, as positions in the pool: training and validation rows, but no test rows.

    They are in the order of the source, so that folds do not depend on which rows the config holds out for validation;
    those of another file or split come last.
    """
    positions = [rows for name, rows in pool.splits.items() if name != "test"]
    rows = np.concatenate(positions)
    if len(np.unique(pool.rows[rows])) < len(rows):
        return rows
    return rows[np.argsort(pool.rows[rows])]


def make_members(pool: Pool, config: ml_collections.ConfigDict, splits: Splits) -> list[Member]:
    """Makes a training for each fold of each seed.

    If the config holds out "N percent" of the training rows for validation, each fold does the same with its own rows.

    Args:
      pool: of the rows.
      config: the whole config.
      splits: how the rows are split.

    Raises:
      UserError: the rows cannot be split like that.
    """
    pool.require_independent("--folds")
    rows = select_rows(pool)
    groups, aside = None, ""
    if pool.groups is not None:
        groups, others = pool.groups[rows], len(np.setdiff1d(pool.groups[pool.splits["test"]], pool.groups[rows]))
        aside = f"and {others} in the test split, which is not split" if others else ""
    members = []
    for seed in splits.seeds:
        parts = folds.split(
            pool.labels[rows],
            groups,
            count=splits.count,
            kind=splits.kind,
            seed=seed,
            class_names=pool.features.class_names,
            aside=aside,
        )
        for number, (train, held_out) in enumerate(parts):
            train, validation = _hold_out_validation(pool, config, rows[train], seed)
            members.append(
                Member(
                    name=f"{splits.kind}, seed {seed}, fold {number}",
                    overrides={},
                    seed=seed,
                    train=train,
                    held_out=rows[held_out],
                    validation=validation,
                )
            )
    return members


def gather(pool: Pool, splits: Splits, members: Sequence[Member], outcomes: Mapping[str, Outcome]) -> OutOfFold:
    """Gathers the results of a cross-validation.

    Args:
      pool: of the rows.
      splits: how they were split.
      members: result of `make_members`.
      outcomes: of at least these members, with predictions.
    """
    rows = select_rows(pool)
    per_seed = len(members) // len(splits.seeds)
    fold = np.full((len(splits.seeds), len(rows)), -1, np.int32)
    place = np.full(len(pool.rows), -1)
    place[rows] = np.arange(len(rows))
    predictions = np.full((len(splits.seeds), len(rows), pool.features.num_outputs), np.nan, np.float32)
    metrics: list[list[dict[str, float]]] = [[] for _ in splits.seeds]
    for index, member in enumerate(members):
        seed, number = divmod(index, per_seed)
        outcome = outcomes[member.name]
        places = place[member.held_out]
        fold[seed, places] = number
        if outcome.predictions is not None:
            predictions[seed, places] = outcome.predictions
        metrics[seed].append(overall(outcome.metrics))
    diverged = [member.name for member in members if outcomes[member.name].status == "diverged"]
    return OutOfFold(splits=splits, rows=rows, fold=fold, predictions=predictions, metrics=metrics, diverged=diverged)


def optimism(pool: Pool, shuffled: OutOfFold, grouped: OutOfFold) -> Interval:
    """Computes how much better shuffled folds look than folds of whole groups, row by row.

    In accuracy, or for a regression in mean squared error (how much smaller it looks). The interval is from the
    variance between groups: it holds for new groups of the same kind, not for new rows of these. All nan if no row was
    predicted both ways.
    """
    difference = shuffled.scores(pool) - grouped.scores(pool)
    if pool.features.task == "regression":
        difference = -difference
    rows = shuffled.rows[np.isfinite(difference)]
    interval = clustered_interval(difference[np.isfinite(difference)], pool.groups[rows], pool.weights[rows])
    return within(interval, -1, 1) if pool.features.task == "classification" else interval


def describe_optimism(difference: Interval, task: str, num_groups: int) -> str:
    """Describes the difference between shuffled and grouped folds in one line.

    Args:
      difference: result of `optimism`.
      task: of the data.
      num_groups: number of groups of the rows.
    """
    unit, word = (100, "points of accuracy") if task == "classification" else (1, "of mean squared error")
    mean, low, high = (unit * value for value in difference)
    if np.isnan(mean):
        return "Cannot tell whether there is leakage: no row was predicted by both the shuffled and the grouped folds."
    if np.isnan(low):
        return (
            f"Shuffled folds look better by {mean:.4g} {word}. Cannot tell whether that is leakage, as the rows "
            "predicted by both are of fewer than three groups."
        )
    if high < 0:
        return (
            f"No leakage seen: shuffled folds look worse by {-mean:.4g} {word} (95 %: {-high:.4g} to {-low:.4g} over "
            f"{num_groups} groups). Leakage would make them look better."
        )
    size = f"{mean:.4g} {word} (95 %: {low:.4g} to {high:.4g} over {num_groups} groups)"
    if low > 0:
        return (
            f"LEAKAGE: shuffled folds look better by {size}. They have rows of one group on both sides; for groups not "
            "seen in training, use the grouped figures."
        )
    return f"No leakage seen: shuffled folds differ by {size}, an interval that contains 0."


def describe_validation(config: ml_collections.ConfigDict) -> str | None:
    """Warns of validation rows that folds cannot hold out; None if there are none."""
    name = config.data.validation
    if splitting.split_name(name) is None:
        return None
    return (
        f"data.validation: the rows of '{name}' are split into folds with all others, so no fold has validation rows: "
        "its last step counts, not its best, and train.patience is off; 'N percent' would hold some out in each"
    )


def _hold_out_validation(
    pool: Pool, config: ml_collections.ConfigDict, train: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits the training rows of a fold into training and validation rows, as a single run would."""
    share = splitting.parse_validation_share(config.data.validation)
    if share is None:
        return train, np.zeros(0, np.int64)
    strata = pool.labels[train] if pool.features.task == "classification" else None
    groups = None if pool.groups is None else pool.groups[train]
    mask = splitting.hold_out(share, strata, groups, len(train), seed=seed, field="data.validation")
    return train[~mask], train[mask]

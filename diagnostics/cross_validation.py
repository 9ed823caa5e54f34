"""Cross-validation: who trains on which fold, what was predicted for rows that took no part, and how sure that is."""

import dataclasses
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from data import folds, splitting
from data.pool import Pool
from diagnostics.scores import by_row, share_interval
from diagnostics.statistics import Interval, clustered_interval, mean_interval, within
from trainers.populations.members import Member, Outcome
from trainers.run.evaluation import overall
from trainers.step.objectives import bounds

LEAST_VALUES = 3
"""Values over folds from which on there is an interval: of two, it would be 13 standard errors wide on either side."""


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

        Folds that are the same for every seed count once, with the mean over the seeds. Intervals go no further than
        the metric does; of fewer than `LEAST_VALUES` values their bounds are nan.
        """
        names = list(dict.fromkeys(name for each in self.metrics for figures in each for name in figures))
        return {name: self._interval(name) for name in names}

    def values(self, metric: str) -> np.ndarray:
        """A metric's values: of each fold of each seed, or of each fold where all seeds have the same folds."""
        values = np.array([[figures.get(metric, np.nan) for figures in each] for each in self.metrics])
        if self.deal.kind == "leave_one_group_out":
            values = values[:, np.isfinite(values).all(axis=0)].mean(axis=0)
        return values[np.isfinite(values)]

    def _interval(self, metric: str) -> Interval:
        values = self.values(metric)
        mean, low, high = mean_interval(values, overlap=1 / (len(self.metrics[0]) - 1))
        if len(values) < LEAST_VALUES:
            return (mean, np.nan, np.nan)
        return within((mean, low, high), *bounds(metric))

    def scores(self, pool: Pool) -> np.ndarray:
        """For each row (N,) the mean over seeds of its accuracy (0 or 1), or for regression of its squared error."""
        return by_row(self.predictions, pool.labels[self.rows], pool.features.task).mean(axis=0)

    def share(self, pool: Pool) -> Interval | None:
        """Accuracy over all rows with Wilson's 95 % interval; None for a regression, or if a training diverged."""
        if pool.features.task != "classification" or self.diverged:
            return None
        return share_interval(self.scores(pool), pool.weights[self.rows])


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
    pool.require_independent("--folds")
    rows = rows_of(pool)
    groups, aside = None, ""
    if pool.groups is not None:
        groups, others = pool.groups[rows], len(np.setdiff1d(pool.groups[pool.splits["test"]], pool.groups[rows]))
        aside = f"and {others} in the test split, which is left alone" if others else ""
    members = []
    for seed in deal.seeds:
        dealt = folds.split(
            pool.labels[rows],
            groups,
            count=deal.count,
            kind=deal.kind,
            seed=seed,
            class_names=pool.features.class_names,
            aside=aside,
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
    between groups: it is for new groups of the same kind, not for new rows of these. All nan if no row was predicted
    both ways.
    """
    difference = shuffled.scores(pool) - grouped.scores(pool)
    if pool.features.task == "regression":
        difference = -difference
    rows = shuffled.rows[np.isfinite(difference)]
    interval = clustered_interval(difference[np.isfinite(difference)], pool.groups[rows], pool.weights[rows])
    return within(interval, -1, 1) if pool.features.task == "classification" else interval


def warning(difference: Interval, task: str, num_groups: int) -> str:
    """What the difference between shuffled and grouped folds says, in one line.

    Args:
      difference: of `optimism`.
      task: of the data.
      num_groups: that the rows are of.
    """
    unit, word = (100, "points of accuracy") if task == "classification" else (1, "of mean squared error")
    mean, low, high = (unit * value for value in difference)
    if np.isnan(mean):
        return "Leakage cannot be looked for: no row was predicted by both the shuffled and the grouped folds."
    if np.isnan(low):
        return (
            f"Shuffled folds look better by {mean:.4g} {word}; whether that is leakage cannot be said, as the rows "
            "predicted by both are of one group."
        )
    if high < 0:
        return (
            f"No leakage seen: shuffled folds look worse by {-mean:.4g} {word} (95 %: {-high:.4g} to {-low:.4g} over "
            f"{num_groups} groups). Leakage would make them look better."
        )
    size = f"{mean:.4g} {word} (95 %: {low:.4g} to {high:.4g} over {num_groups} groups)"
    if low > 0:
        return (
            f"LEAKAGE: shuffled folds look better by {size}. Rows of one group stand on both sides of them; for groups "
            "not seen in training, believe the grouped figures."
        )
    return f"No leakage seen: shuffled folds differ by {size}, an interval that holds 0."


def remark(config: ml_collections.ConfigDict) -> str | None:
    """What is to be known, before it trains, about a config whose validation rows no fold can set apart; or None."""
    name = config.data.validation
    if splitting.split_name(name) is None:
        return None
    return (
        f"data.validation: the rows of '{name}' are dealt into folds with all others, so no fold has validation rows: "
        "its last step counts, not its best, and train.patience is off; 'N percent' would set some apart in each"
    )


def _set_apart(
    pool: Pool, config: ml_collections.ConfigDict, train: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation rows of a fold, as a single run would split what the fold leaves it to train on."""
    share = splitting.parse_share(config.data.validation, "data.validation")
    if share is None:
        return train, np.zeros(0, np.int64)
    strata = pool.labels[train] if pool.features.task == "classification" else None
    groups = None if pool.groups is None else pool.groups[train]
    mask = splitting.hold_out(share, strata, groups, len(train), seed=seed, field="data.validation")
    return train[~mask], train[mask]

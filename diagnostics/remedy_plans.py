"""The trainings that try remedies: on folds, which choose, and on the whole training split, for the test rows."""

import dataclasses
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from data.pool import Pool
from diagnostics import cross_validation
from diagnostics.ablation import BASELINE
from diagnostics.cross_validation import Splits
from diagnostics.remedies import Trial, pool_key
from diagnostics.scores import by_row
from trainers.populations.members import Member, Outcome
from trainers.settings import override

FOLDS = 5
"""Folds that choose remedies; fewer if there are fewer groups."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The trainings of trials that share a pool. The first plan has those of the baseline as well.

    Attributes:
      key: `pool_key` of the trials.
      config: of the population.
      pool: of the population.
      members: of the population.
    """

    key: str
    config: ml_collections.ConfigDict
    pool: Pool
    members: list[Member]


def folds(pool: Pool, seeds: Sequence[int]) -> Splits:
    """Returns how rows are split to choose remedies: by whole groups if there are three or more, else shuffled.

    Args:
      pool: of the rows.
      seeds: of the repetitions.
    """
    rows = cross_validation.select_rows(pool)
    groups = 0 if pool.groups is None else len(np.unique(pool.groups[rows]))
    kind = "stratified" if pool.features.task == "classification" else "shuffled"
    if groups > 2:
        kind = "group"
    count = min(FOLDS, groups if kind == "group" else len(rows))
    if kind == "stratified":
        # A class of fewer rows than folds cannot be in each fold.
        least = int(np.unique(pool.labels[rows], return_counts=True)[1].min())
        kind = kind if least >= count else "shuffled"
    return Splits(kind=kind, count=count, seeds=tuple(seeds))


def plan_folds(
    config: ml_collections.ConfigDict, pools: Mapping[str, Pool], trials: Sequence[Trial], splits: Splits
) -> list[Plan]:
    """Plans a training of the baseline and of each trial on each fold; none if there are no trials.

    Each is judged on the rows that its fold holds out and of which it has seen no exact copy.

    Args:
      config: of the trainings without remedy.
      pools: by the `pool_key` of their overrides; `pool_key({})` is the one without any.
      trials: to make.
      splits: result of `folds`.
    """
    base = pools[pool_key({})]
    copies = _number_copies(base)
    members = [
        dataclasses.replace(each, held_out=each.held_out[~np.isin(copies[each.held_out], copies[each.train])])
        for each in cross_validation.make_members(base, config, splits)
    ]
    return _plan(config, pools, trials, members)


def plan_test(
    config: ml_collections.ConfigDict,
    pools: Mapping[str, Pool],
    trials: Sequence[Trial],
    seeds: Sequence[int],
    held_out: np.ndarray,
) -> list[Plan]:
    """Plans a training of the baseline and of each trial for each seed, on the training split.

    Args:
      config: of the trainings without remedy.
      pools: as for `plan_folds`.
      trials: to make; no trainings if there are none.
      seeds: of each.
      held_out: (m,) positions of test rows.
    """
    splits = pools[pool_key({})].splits
    members = [
        Member(
            name=f"seed {seed}",
            overrides={},
            seed=seed,
            train=splits["train"],
            held_out=held_out,
            validation=splits.get("validation", np.zeros(0, np.int64)),
        )
        for seed in seeds
    ]
    return _plan(config, pools, trials, members)


def member_name(variant: str, name: str) -> str:
    """Returns the name of a variant's training: on a seed, or on a fold of one.

    Args:
      variant: `BASELINE` or the name of a trial.
      name: such as "seed 0".
    """
    return f"{variant}, {name}"


def fold_names(splits: Splits) -> list[list[str]]:
    """Returns the names of the trainings on the folds of each repetition."""
    return [[f"{splits.kind}, seed {seed}, fold {number}" for number in range(splits.count)] for seed in splits.seeds]


def gather(
    pool: Pool, splits: Splits, plans: Sequence[Plan], outcomes: Mapping[str, Outcome], variant: str
) -> np.ndarray:
    """Gathers the out-of-fold scores (R, N) of a variant in each repetition: whether each row is right, or its error.

    Rows that are judged in no fold are nan, and so are those of a training that diverged.

    Args:
      pool: of the rows.
      splits: result of `folds`.
      plans: result of `plan_folds`.
      outcomes: of all members, with predictions.
      variant: `BASELINE` or the name of a trial.
    """
    members = {member.name: member for plan in plans for member in plan.members}
    scores = np.full((len(splits.seeds), len(pool.rows)), np.nan)
    for repetition, names in enumerate(fold_names(splits)):
        for name in (member_name(variant, each) for each in names):
            rows, predictions = members[name].held_out, outcomes[name].predictions
            if predictions is not None:
                scores[repetition, rows] = by_row(predictions, pool.labels[rows], pool.features.task)
    return scores


def _plan(
    config: ml_collections.ConfigDict, pools: Mapping[str, Pool], trials: Sequence[Trial], members: Sequence[Member]
) -> list[Plan]:
    """Plans members of the baseline once more for each trial, in one population for each pool."""
    found = []
    for key, pool in pools.items() if trials else ():
        own = [trial for trial in trials if pool_key(trial.data) == key]
        is_first = not found
        if not own and not is_first:
            continue
        changed = override(config, own[0].data) if own else config
        planned = []
        if is_first:
            planned += [_rename(member, BASELINE) for member in members]
        for trial in own:
            pool, place = _add_copies(pool, trial)
            planned += [_change(member, trial, place) for member in members]
        found.append(Plan(key=key, config=changed, pool=pool, members=planned))
    return found


def _rename(member: Member, variant: str) -> Member:
    return dataclasses.replace(member, name=member_name(variant, member.name))


def _change(member: Member, trial: Trial, place: np.ndarray) -> Member:
    """Makes the training with a remedy; rows of smaller weight are read from their places (N,), and -1 is left out."""
    train, validation = (rows[~np.isin(rows, trial.drop)] for rows in (member.train, member.validation))
    train = place[train]
    renamed = _rename(member, trial.name)
    return dataclasses.replace(renamed, overrides=trial.overrides, train=train[train >= 0], validation=validation)


def _add_copies(pool: Pool, trial: Trial) -> tuple[Pool, np.ndarray]:
    """Appends copies of the rows with smaller weights to the pool; returns the place of each row, -1 for weight 0."""
    place = np.arange(len(pool.rows))
    if trial.weights is None:
        return pool, place
    # Copies that were appended for other trials have no weight of their own.
    weights = np.concatenate([trial.weights, np.ones(len(place) - len(trial.weights), trial.weights.dtype)])
    less = np.flatnonzero((weights < 1) & (weights > 0))
    place[weights == 0] = -1
    pool, copies = pool.with_copies(less, pool.labels[less], pool.weights[less] * weights[less])
    place[less] = copies
    return pool, place


def _number_copies(pool: Pool) -> np.ndarray:
    """Returns the same number (N,) for rows with equal inputs."""
    inputs = np.ascontiguousarray(pool.inputs.reshape(len(pool.inputs), -1))
    return np.unique(inputs.view(np.dtype((np.void, inputs.dtype.itemsize * inputs.shape[1]))), return_inverse=True)[
        1
    ].ravel()

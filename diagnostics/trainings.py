"""The trainings of an audit, in one population: folds, growing subsets of the training rows, and random labels."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from data import subsets
from data.pool import Pool
from data.random_streams import Stream, generator
from diagnostics import cross_validation, learning_curve
from diagnostics.cross_validation import OutOfFold, Splits
from diagnostics.learning_curve import LEAST_SIZES, LearningCurve
from diagnostics.scores import Score, by_row
from plumbline import UserError
from trainers.building import make_clock
from trainers.populations.members import Member, Outcome

# More rows with random labels add nothing, and each is a copy in memory.
_MOST_CONTROL_ROWS = 3_000


CONTROLS = 10
"""Trainings on random labels; with fewer, no chance result is rare enough to accuse a pipeline of a leak."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Control:
    """Trainings on random labels, which the inputs cannot predict.

    Attributes:
      labels: (S, n) the random labels.
      own: (S, n, outputs) predictions for the rows they were trained on; nan if the training diverged.
      rows: (m,) held-out positions, which have their true labels.
      predictions: (S, m, outputs) for the held-out rows.
    """

    labels: np.ndarray
    own: np.ndarray
    rows: np.ndarray
    predictions: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Trainings:
    """The results of the trainings of an audit.

    Attributes:
      config: of them all.
      seeds: of each kind of training.
      out_of_fold: predictions for training and validation rows, by shuffled folds.
      grouped: the same by folds of whole groups; None if the source has no groups.
      points: (n, 2) examples, and error on the test split, of trainings on growing subsets of the training rows.
      overlaps: (n, n) training rows that each two of them share; None if unknown.
      why_no_curve: why there are too few sizes for a learning curve; "" if there are enough.
      predictions: (S, N, outputs) for all rows of the pool, by trainings on the whole training split, one for each
        seed; nan if a training diverged.
      histories: for each of those, overall metrics on the validation split and `step` at each evaluation; empty without
        a validation split.
      training_history: the same of one training, on its training rows.
      skipped: updates that this training skipped, as loss or gradient was not finite.
      control: trainings on random labels.
      diverged: names of the trainings that diverged.
    """

    config: ml_collections.ConfigDict
    seeds: tuple[int, ...]
    out_of_fold: OutOfFold
    grouped: OutOfFold | None
    points: np.ndarray
    why_no_curve: str
    predictions: np.ndarray
    histories: list[list[dict[str, float]]]
    training_history: list[dict[str, float]]
    skipped: int
    control: Control
    diverged: list[str]
    overlaps: np.ndarray | None = None

    @functools.cached_property
    def curve(self) -> LearningCurve | None:
        """The learning curve; None if there are too few sizes."""
        return None if self.why_no_curve else learning_curve.fit(*self.points.T, self.overlaps)

    @property
    def finished(self) -> np.ndarray:
        """(s, N, outputs) the `predictions` of the trainings that did not diverge."""
        return self.predictions[np.isfinite(self.predictions).all(axis=(1, 2))]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The members of an audit's population.

    Attributes:
      pool: the pool given, and rows with random labels.
      members: all of them.
      config: of all members.
      seeds: of each kind of training.
      folds: the members of each cross-validation.
      growing: the members on growing subsets, by size and seed.
      monitored: the member that is evaluated on its training rows.
      controls: the members on random labels.
      why_no_curve: as in `Trainings`.
    """

    pool: Pool
    members: list[Member]
    config: ml_collections.ConfigDict
    seeds: tuple[int, ...]
    folds: dict[Splits, list[Member]]
    growing: dict[tuple[int, int], Member]
    monitored: Member
    controls: list[Member]
    why_no_curve: str

    def gather(self, outcomes: Mapping[str, Outcome]) -> Trainings:
        """Gathers the results of the members.

        Args:
          outcomes: of all of them, with predictions.
        """
        found = [cross_validation.gather(self.pool, splits, own, outcomes) for splits, own in self.folds.items()]
        points, overlaps = curve_points(self.pool, self.growing, outcomes)
        largest = max(size for size, _ in self.growing)
        whole = [self.growing[largest, seed] for seed in self.seeds]
        few = len(np.unique(points[:, 0])) < LEAST_SIZES
        return Trainings(
            config=self.config,
            seeds=self.seeds,
            out_of_fold=found[0],
            grouped=found[1] if len(found) > 1 else None,
            points=points,
            overlaps=overlaps,
            why_no_curve=self.why_no_curve or ("too many trainings diverged" if few else ""),
            predictions=np.stack([self._predictions(member, outcomes) for member in whole]),
            histories=[outcomes[member.name].history for member in whole if len(member.validation)],
            training_history=outcomes[self.monitored.name].history,
            skipped=int(sum(line["skipped"] for line in outcomes[self.monitored.name].training)),
            control=self._control(outcomes),
            diverged=[member.name for member in self.members if outcomes[member.name].status == "diverged"],
        )

    def _control(self, outcomes: Mapping[str, Outcome]) -> Control:
        count = len(self.controls[0].train)
        both = np.stack([self._predictions(member, outcomes) for member in self.controls])
        return Control(
            labels=np.stack([self.pool.labels[member.train] for member in self.controls]),
            own=both[:, :count],
            rows=self.controls[0].held_out[count:],
            predictions=both[:, count:],
        )

    def _predictions(self, member: Member, outcomes: Mapping[str, Outcome]) -> np.ndarray:
        found = outcomes[member.name].predictions
        if found is None:
            return np.full((len(member.held_out), self.pool.features.num_outputs), np.nan, np.float32)
        return found


def plan(
    config: ml_collections.ConfigDict,
    pool: Pool,
    *,
    folds: int = 5,
    seeds: int = 3,
    sizes: int = 6,
    groups: bool = True,
) -> Plan:
    """Plans the trainings of an audit as members of one population of `config` on the plan's pool.

    There are trainings on shuffled folds and folds of whole groups; on growing subsets of the training rows; on all of
    them once more, evaluated on these rows; and ten on random labels of at most 3,000 training rows, without validation
    rows, as these would choose a step by true labels. Each takes as many steps as a training on all rows.

    Args:
      config: the whole config.
      pool: of its data.
      folds: of each cross-validation; there are at most as many folds of whole groups as groups.
      seeds: repetitions of each kind but that on random labels.
      sizes: number of growing subsets; fewer if there are not enough rows.
      groups: also split by whole groups, if the source has several.

    Raises:
      UserError: the rows cannot be split into that many folds, or are windows of one text.
    """
    pool.require_independent("audit")
    numbers = tuple(range(config.seed, config.seed + seeds))
    train = pool.splits["train"]
    counts, why_no_curve = _sizes(pool, sizes)
    overrides = in_steps(config, len(train))
    # As many steps as on all rows, or a gap would also be due to a shorter training.
    members = {
        splits: [
            dataclasses.replace(member, overrides=overrides)
            for member in cross_validation.make_members(pool, config, splits)
        ]
        for splits in _splits(pool, folds, numbers, groups)
    }
    growing = growing_members(pool, counts, numbers, overrides)
    everything = np.arange(len(pool.rows))
    for seed in numbers:
        whole = growing[len(train), seed]
        growing[len(train), seed] = dataclasses.replace(whole, held_out=everything)
    monitored = _monitored(pool, numbers[0], {**overrides, "train.patience": ""})
    random = range(config.seed, config.seed + CONTROLS)
    extended, controls = _controls(pool, random, {**overrides, "train.patience": ""})
    return Plan(
        pool=extended,
        members=[*(each for own in members.values() for each in own), *growing.values(), monitored, *controls],
        config=config,
        seeds=numbers,
        folds=members,
        growing=growing,
        monitored=monitored,
        controls=controls,
        why_no_curve=why_no_curve,
    )


def in_steps(config: ml_collections.ConfigDict, num_rows: int) -> dict[str, Any]:
    """Returns overrides that give all durations in steps, as for `num_rows` rows, so that subsets take as many steps.

    Raises:
      UserError: a duration is invalid.
    """
    clock = make_clock(config, num_rows)
    overrides: dict[str, Any] = {"train.duration": f"{clock.total_steps} steps"}
    for section, name in (
        ("train", "evaluate_every"),
        ("train", "log_every"),
        ("train", "patience"),
        ("schedule", "warmup"),
        ("schedule", "rsqrt_timescale"),
        *(("prune", name) for name in ("begin", "end", "every") if config.prune.sparsity),
    ):
        field, text = f"{section}.{name}", config[section][name]
        if text.strip():
            overrides[field] = f"{clock.steps(text, field)} steps"
    overrides["schedule.step_at"] = tuple(
        f"{clock.steps(text, 'schedule.step_at')} steps" for text in config.schedule.step_at
    )
    if config.transfer.unfreeze:
        overrides["transfer.unfreeze"] = tuple(
            (pattern, f"{clock.steps(text, 'transfer.unfreeze')} steps") for pattern, text in config.transfer.unfreeze
        )
    return overrides


def growing_members(
    pool: Pool, sizes: Sequence[int], seeds: Sequence[int], overrides: Mapping[str, Any]
) -> dict[tuple[int, int], Member]:
    """Makes a training for each size and seed, on a subset of the training rows, evaluated on the test split.

    The subsets of a seed are nested. Those of different seeds begin at places of one order that are far apart, so that
    they share as few rows as may be: the variance between them shows what other rows would do.

    Args:
      pool: of the rows.
      sizes: of the subsets.
      seeds: in order; more of them leave the subsets of the first ones as they are.
      overrides: of all members.
    """
    train = pool.splits["train"]
    members = {}
    order = subsets.nested_order(pool.labels[train], seed=seeds[0])
    for number, seed in enumerate(seeds):
        own = np.roll(order, -subsets.spread(number, len(train)))
        for size in sizes:
            members[size, seed] = Member(
                name=f"{size} examples, seed {seed}",
                overrides=overrides,
                seed=seed,
                train=np.sort(train[own[:size]]),
                held_out=pool.splits["test"],
                validation=pool.splits.get("validation", np.zeros(0, np.int64)),
            )
    return members


def curve_points(
    pool: Pool, members: Mapping[tuple[int, int], Member], outcomes: Mapping[str, Outcome]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the points of a learning curve, by trainings that did not diverge.

    Args:
      pool: of the rows.
      members: by size and seed.
      outcomes: of the members.

    Returns:
      (n, 2) size and test error of each, and (n, n) the training rows that each two of them share.
    """
    score, test, points = Score(pool.features.task), pool.splits["test"], []
    finished = [(size, member) for (size, _), member in members.items() if outcomes[member.name].metrics]
    for size, member in finished:
        outcome = outcomes[member.name]
        if len(member.held_out) == len(test):
            value = outcome.metrics[score.name]
        else:  # Evaluated on all rows, of which those of the test split count here.
            found = outcome.predictions[np.isin(member.held_out, test)]
            rows = np.sort(test)
            value = np.average(by_row(found, pool.labels[rows], pool.features.task), weights=pool.weights[rows])
        points.append((size, score.error(float(value))))
    trained = np.zeros((len(finished), len(pool.rows)), np.float32)
    for number, (_, member) in enumerate(finished):
        trained[number, member.train] = 1
    return np.array(points).reshape(-1, 2), trained @ trained.T


def _splits(pool: Pool, count: int, seeds: tuple[int, ...], groups: bool) -> list[Splits]:
    """Shuffled folds, and folds of whole groups if there are several groups."""
    kinds = {"stratified" if pool.features.task == "classification" else "shuffled": count}
    if groups and pool.groups is not None:
        present = len(np.unique(pool.groups[cross_validation.select_rows(pool)]))
        kinds |= {"group": min(count, present)} if present > 1 else {}
    return [Splits(kind=kind, count=number, seeds=seeds) for kind, number in kinds.items()]


def _sizes(pool: Pool, most: int) -> tuple[list[int], str]:
    """Chooses as many sizes as there are rows for; all rows alone, and the reason, if these are too few for a curve."""
    train, reason = pool.splits["train"], f"--sizes: {most} given, but a power law needs {LEAST_SIZES}"
    for count in range(most, LEAST_SIZES - 1, -1):
        try:
            return subsets.choose_sizes(len(train), count, len(pool.features.class_names)), ""
        except UserError:
            reason = f"{len(train)} training rows are too few for {LEAST_SIZES} subsets of sufficient size"
    return [len(train)], reason


def _monitored(pool: Pool, seed: int, overrides: Mapping[str, Any]) -> Member:
    """A training on all training rows that is evaluated on these rows."""
    train = pool.splits["train"]
    # The name decides which trainings of an earlier audit are reused, so it stays.
    name = f"watched on its training rows, seed {seed}"
    return Member(
        name=name, overrides=overrides, seed=seed, train=train, held_out=pool.splits["test"], validation=train
    )


def random_labels(labels: np.ndarray, classes: int, random: np.random.Generator) -> np.ndarray:
    """Draws labels at random: of a classification each class equally likely, of a regression a permutation.

    With permuted classes a model without a leak could be above chance: it predicts a rare class only far out, and rows
    far out often have a rare class. With equally likely classes, a row's prediction is as likely each of them.

    Args:
      labels: (n,) the true labels.
      classes: number of classes; 0 for a regression.
      random: the generator.

    Returns:
      Labels (n,).
    """
    return random.integers(0, classes, len(labels)).astype(labels.dtype) if classes else random.permutation(labels)


def _controls(pool: Pool, seeds: Sequence[int], overrides: Mapping[str, Any]) -> tuple[Pool, list[Member]]:
    """Adds rows with random labels to a pool, and makes a training on them for each seed."""
    train, held_out = (
        pool.splits["train"],
        [pool.splits[name] for name in ("validation", "test") if name in pool.splits],
    )
    order = subsets.nested_order(pool.labels[train], seed=seeds[0])
    chosen = np.sort(train[order[:_MOST_CONTROL_ROWS]])
    classes = pool.features.num_outputs if pool.features.task == "classification" else 0
    labels = [random_labels(pool.labels[chosen], classes, generator(seed, Stream.RANDOM_LABELS)) for seed in seeds]
    extended, copies = pool.with_copies(np.tile(chosen, len(seeds)), np.concatenate(labels))
    members = [
        Member(
            name=f"labels at random, seed {seed}",
            overrides=overrides,
            seed=seed,
            train=own,
            held_out=np.concatenate([own, *held_out]),
        )
        for seed, own in zip(seeds, copies.reshape(len(seeds), -1), strict=True)
    ]
    return extended, members

"""All that an audit trains, in one population: folds, growing parts of the training rows, and labels at random."""

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
from diagnostics.cross_validation import Deal, OutOfFold
from diagnostics.learning_curve import LEAST_SIZES, LearningCurve
from diagnostics.scores import Score, by_row
from plumbline import UserError
from trainers.building import make_clock
from trainers.populations.members import Member, Outcome

# More rows with random labels tell no more, and each is a copy in memory.
_MOST_CONTROL_ROWS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Control:
    """Trainings on labels dealt at random, which the inputs cannot tell.

    Attributes:
      labels: (S, n) the labels that they were trained on.
      own: (S, n, outputs) predictions for the rows they were trained on; nan where one diverged.
      rows: (m,) positions that took no part in training, with their true labels.
      predictions: (S, m, outputs) for these.
    """

    labels: np.ndarray
    own: np.ndarray
    rows: np.ndarray
    predictions: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What became of the trainings of an audit.

    Attributes:
      config: of them all.
      seeds: of each kind of training.
      out_of_fold: predictions for training and validation rows out of shuffled folds.
      grouped: the same out of folds of whole groups; None where the source has none.
      points: (n, 2) examples and error on the test split of trainings on growing parts of the training rows.
      why_no_curve: why there are too few sizes for a learning curve; "" otherwise.
      predictions: (S, N, outputs) for all rows of the pool by the trainings on the whole training split, a seed each;
        nan where one diverged.
      histories: overall metrics on the validation split at each evaluation, and the `step`, of each of those; empty
        without a validation split.
      training_history: the same on the training rows, of one training.
      control: trainings on labels at random.
      diverged: names of the trainings that did.
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
    control: Control
    diverged: list[str]

    @functools.cached_property
    def curve(self) -> LearningCurve | None:
        """The learning curve; None where there are too few sizes."""
        return None if self.why_no_curve else learning_curve.fit(self.points[:, 0], self.points[:, 1])

    @property
    def finished(self) -> np.ndarray:
        """(s, N, outputs) of `predictions` those of the trainings that did not diverge."""
        return self.predictions[np.isfinite(self.predictions).all(axis=(1, 2))]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The members of an audit's population.

    Attributes:
      pool: that they are trained on: the one given, and rows with labels at random.
      members: all of them.
      config: of them all.
      seeds: of each kind of training.
      deals: the members of each deal into folds.
      growing: the members on growing parts, by their size and seed.
      watched: the member whose history is that of its training rows.
      controls: the members on labels at random.
      why_no_curve: as in `Trained`.
    """

    pool: Pool
    members: list[Member]
    config: ml_collections.ConfigDict
    seeds: tuple[int, ...]
    deals: dict[Deal, list[Member]]
    growing: dict[tuple[int, int], Member]
    watched: Member
    controls: list[Member]
    why_no_curve: str

    def gather(self, outcomes: Mapping[str, Outcome]) -> Trained:
        """What became of the members.

        Args:
          outcomes: of all of them, with predictions.
        """
        found = [cross_validation.gather(self.pool, deal, own, outcomes) for deal, own in self.deals.items()]
        points = curve_points(self.pool, self.growing, outcomes)
        largest = max(size for size, _ in self.growing)
        whole = [self.growing[largest, seed] for seed in self.seeds]
        few = len(np.unique(points[:, 0])) < LEAST_SIZES
        return Trained(
            config=self.config,
            seeds=self.seeds,
            out_of_fold=found[0],
            grouped=found[1] if len(found) > 1 else None,
            points=points,
            why_no_curve=self.why_no_curve or ("too many trainings diverged" if few else ""),
            predictions=np.stack([self._predictions(member, outcomes) for member in whole]),
            histories=[outcomes[member.name].history for member in whole if len(member.validation)],
            training_history=outcomes[self.watched.name].history,
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
    """What an audit trains: all of it is members of one population of `config` on the plan's pool.

    Out of folds, shuffled and of whole groups; on growing parts of the training rows; on all of them once more, watched
    on just these; and on labels dealt at random among at most 10,000 training rows, without validation rows, as these
    would choose a step by true labels. Each takes as many steps as a training on all rows.

    Args:
      config: the whole config.
      pool: of its data.
      folds: of each deal; of whole groups there are no more than groups.
      seeds: repetitions of each kind.
      sizes: of the growing parts; fewer where there are not the rows for as many.
      groups: deal whole groups too, where the source has several.

    Raises:
      UserError: the rows cannot be dealt into so many folds, or are windows of one text.
    """
    pool.require_independent("audit")
    numbers = tuple(range(config.seed, config.seed + seeds))
    kinds = {"stratified" if pool.features.task == "classification" else "shuffled": folds}
    if groups and pool.groups is not None:
        present = len(np.unique(pool.groups[cross_validation.rows_of(pool)]))
        kinds |= {"group": min(folds, present)} if present > 1 else {}
    dealt = [Deal(kind=kind, count=count, seeds=numbers) for kind, count in kinds.items()]
    train = pool.splits["train"]
    counts, why_no_curve = _sizes(pool, sizes)
    overrides = in_steps(config, len(train))
    # As many steps as on all rows, or a gap would tell of a shorter training as well.
    deals = {
        deal: [
            dataclasses.replace(member, overrides=overrides)
            for member in cross_validation.make_members(pool, config, deal)
        ]
        for deal in dealt
    }
    growing = growing_members(pool, counts, numbers, overrides)
    everything = np.arange(len(pool.rows))
    for seed in numbers:
        whole = growing[len(train), seed]
        growing[len(train), seed] = dataclasses.replace(whole, held_out=everything)
    watched = Member(
        name=f"watched on its training rows, seed {numbers[0]}",
        overrides={**overrides, "train.patience": ""},
        seed=numbers[0],
        train=train,
        held_out=pool.splits["test"],
        validation=train,
    )
    extended, controls = _controls(pool, numbers, {**overrides, "train.patience": ""})
    members = [member for own in deals.values() for member in own]
    return Plan(
        pool=extended,
        members=[*members, *growing.values(), watched, *controls],
        config=config,
        seeds=numbers,
        deals=deals,
        growing=growing,
        watched=watched,
        controls=controls,
        why_no_curve=why_no_curve,
    )


def in_steps(config: ml_collections.ConfigDict, num_rows: int) -> dict[str, Any]:
    """Overrides that give all durations in steps, as they are for so many rows: the same for each part of them.

    Raises:
      UserError: a duration is none.
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
    """A training for each size and seed, on nested parts of the training rows, judged on the test split.

    Args:
      pool: of the rows.
      sizes: of the parts.
      seeds: each with parts of its own.
      overrides: of all of them.
    """
    train = pool.splits["train"]
    members = {}
    for seed in seeds:
        order = subsets.nested_order(pool.labels[train], seed=seed)
        for size in sizes:
            members[size, seed] = Member(
                name=f"{size} examples, seed {seed}",
                overrides=overrides,
                seed=seed,
                train=np.sort(train[order[:size]]),
                held_out=pool.splits["test"],
                validation=pool.splits.get("validation", np.zeros(0, np.int64)),
            )
    return members


def curve_points(pool: Pool, members: Mapping[tuple[int, int], Member], outcomes: Mapping[str, Outcome]) -> np.ndarray:
    """(n, 2) size and error on the test split of each training that did not diverge."""
    score, test, points = Score(pool.features.task), pool.splits["test"], []
    for (size, _), member in members.items():
        outcome = outcomes[member.name]
        if not outcome.metrics:
            continue
        if len(member.held_out) == len(test):
            value = outcome.metrics[score.name]
        else:  # Judged on all rows, of which those of the test split count here.
            found = outcome.predictions[np.isin(member.held_out, test)]
            rows = np.sort(test)
            value = np.average(by_row(found, pool.labels[rows], pool.features.task), weights=pool.weights[rows])
        points.append((size, score.error(float(value))))
    return np.array(points).reshape(-1, 2)


def _sizes(pool: Pool, most: int) -> tuple[list[int], str]:
    """As many sizes as there are rows for, and why they are too few for a curve, if they are: then all rows alone."""
    train, reason = pool.splits["train"], f"--sizes: {most} given, but a power law takes {LEAST_SIZES}"
    for count in range(most, LEAST_SIZES - 1, -1):
        try:
            return subsets.choose_sizes(len(train), count, len(pool.features.class_names)), ""
        except UserError:
            reason = f"of {len(train)} training rows no {LEAST_SIZES} subsets can be made that are large enough"
    return [len(train)], reason


def _controls(pool: Pool, seeds: Sequence[int], overrides: Mapping[str, Any]) -> tuple[Pool, list[Member]]:
    """The pool with rows whose labels are dealt at random, and a training on them for each seed."""
    train, held_out = (
        pool.splits["train"],
        [pool.splits[name] for name in ("validation", "test") if name in pool.splits],
    )
    order = subsets.nested_order(pool.labels[train], seed=seeds[0])
    chosen = np.sort(train[order[:_MOST_CONTROL_ROWS]])
    labels = [generator(seed, Stream.RANDOM_LABELS).permutation(pool.labels[chosen]) for seed in seeds]
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

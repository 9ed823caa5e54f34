"""Groups of rows that belong together, such as those of one writer: whether splits share them, and what that hides."""

import math

import numpy as np

from data.pool import Pool
from diagnostics import cross_validation
from diagnostics.cross_validation import OutOfFold
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Measure, Remedy, Rows, Table, cannot_judge
from diagnostics.statistics import Interval, wilson_interval
from plumbline import counted

_CHALLENGE = "data quality"
_SHARED, _OPTIMISM = "shared_groups", "grouped_optimism"
# Share of the training rows that must be left for dropping those of shared groups to be a remedy.
_LEAST_LEFT = 0.5
# Optimism from which on it is grave, or worth minding: in accuracy, or for a regression as a share of the error.
_GRAVE, _MINDED = {"classification": 0.02, "regression": 0.1}, {"classification": 0.005, "regression": 0.02}
_MOST_GROUPS = 20


def find(examples: Examples, out_of_fold: OutOfFold | None, grouped: OutOfFold | None) -> list[Finding]:
    """Looks for groups with rows in several splits, and for what the shuffling of rows hides.

    Args:
      examples: of the set.
      out_of_fold: predictions for rows dealt at random, or None where none were made.
      grouped: the same of folds of whole groups.

    Returns:
      The findings "shared_groups" and "grouped_optimism".
    """
    if examples.groups is None:
        reason = "the set has no groups; where rows of one writer, patient or site belong together, name the column "
        reason += "with data.group"
        return [cannot_judge(name, _CHALLENGE, reason) for name in (_SHARED, _OPTIMISM)]
    return [_shared_groups(examples), _grouped_optimism(examples, out_of_fold, grouped)]


def _shared_groups(examples: Examples) -> Finding:
    groups, split = examples.groups, examples.split
    present = {name: set(np.unique(groups[split == name]).tolist()) for name in examples.splits}
    before = set().union(*(found for name, found in present.items() if name != "test"))
    tested = present["test"] & before
    validated = present["train"] & present.get("validation", set())
    shared = sorted(tested | validated)
    in_test = split == "test"
    leaking = np.isin(groups, sorted(tested))
    share = wilson_interval(int((leaking & in_test).sum()), int(in_test.sum()))
    severity = "high" if tested else "medium" if validated else "none"
    message = (
        f"No group has rows in more than one split: the {len(present['test'])} of the test are not among the "
        f"{len(before)} that are trained or chosen on."
    )
    if tested:
        message = (
            f"{counted(len(tested), 'group')} of the {len(present['test'])} in the test {_have(tested)} rows in "
            f"training or validation too: {share[0]:.1%} of the test's rows. Rows of a group are alike, so these are "
            "partly known by heart, and the test looks better than new groups will."
        )
    elif validated:
        message = (
            f"{counted(len(validated), 'group')} {_have(validated)} rows in training and in validation, so the "
            "validation chooses models that know its groups. The test has none of them."
        )
    drop = np.flatnonzero(leaking & ~in_test)
    return Finding(
        name=_SHARED,
        challenge=_CHALLENGE,
        severity=severity,
        message=message,
        measures=(
            Measure.of("test rows of groups that are also in training or validation", share, "share"),
            Measure(name="groups in more than one split", value=len(shared), kind="count"),
            Measure(name="groups", value=len(np.unique(groups)), kind="count"),
        ),
        evidence=_shared_evidence(examples, shared) if shared else (),
        remedies=_shared_remedies(examples, drop, bool(tested), bool(validated)),
        drop=drop if _enough_left(examples, drop) else None,
    )


def _have(groups: set[int]) -> str:
    return "has" if len(groups) == 1 else "have"


def _enough_left(examples: Examples, drop: np.ndarray) -> bool:
    """Whether a training can do without these rows: half of the others are left, and some of each class."""
    train = examples.positions("train")
    left = np.setdiff1d(train, drop)
    if not len(drop) or len(left) < _LEAST_LEFT * len(train):
        return False
    return examples.features.task != "classification" or set(examples.labels[left]) == set(examples.labels[train])


def _shared_remedies(examples: Examples, drop: np.ndarray, tested: bool, validated: bool) -> tuple[Remedy, ...]:
    remedies = []
    if _enough_left(examples, drop):
        remedies.append(
            Remedy(
                text="Leave the rows of the test's groups out of training and validation.",
                overrides={"data.drop": f"findings:{_SHARED}"},
            )
        )
    if tested:
        remedies.append(
            Remedy(
                text="Hold out whole groups of the training rows for the test.",
                overrides={"data.test": "20 percent"},
            )
        )
    if validated:
        remedies.append(
            Remedy(
                text="Hold out whole groups of the training rows for the validation.",
                overrides={"data.validation": "10 percent"},
            )
        )
    return tuple(remedies)


def _shared_evidence(examples: Examples, shared: list[int]) -> tuple[Rows | Table, ...]:
    groups, split, names = examples.groups, examples.split, examples.features.group_names
    columns = tuple(examples.splits)
    counts = {group: [int(((groups == group) & (split == name)).sum()) for name in columns] for group in shared}
    most = sorted(shared, key=lambda group: -sum(counts[group]))[:_MOST_GROUPS]
    # One row of each split, so that they can be looked at side by side.
    clusters = tuple(
        tuple(
            int(np.flatnonzero((groups == group) & (split == name))[0])
            for name in columns
            if ((groups == group) & (split == name)).any()
        )
        for group in most
    )
    return (
        Table(
            title="Groups with rows in more than one split",
            header=("group", *columns),
            rows=tuple((names[group], *counts[group]) for group in most),
        ),
        Rows(
            title="A row of each split, of one group",
            clusters=clusters,
            notes=tuple(names[group] for group in most),
            total=len(shared),
        ),
    )


def _grouped_optimism(examples: Examples, shuffled: OutOfFold | None, grouped: OutOfFold | None) -> Finding:
    if shuffled is None or grouped is None:
        missing = "rows dealt at random" if shuffled is None else "whole groups held out"
        return cannot_judge(_OPTIMISM, _CHALLENGE, f"no models were trained with {missing}")
    pool, task = _without_inputs(examples), examples.features.task
    difference = cross_validation.optimism(pool, shuffled=shuffled, grouped=grouped)
    if np.isnan(difference[0]):
        return cannot_judge(_OPTIMISM, _CHALLENGE, "no row was predicted by both the shuffled and the grouped folds")
    num_groups = len(np.unique(examples.groups[grouped.rows]))
    mean_shuffled, mean_grouped = (float(np.nanmean(each.scores(pool))) for each in (shuffled, grouped))
    leaks = difference[1] > 0
    names = ("accuracy", "number") if task == "classification" else ("mean squared error", "number")
    kind = "share" if task == "classification" else "number"
    remedies = (
        Remedy(
            text="Choose models and report figures by folds of whole groups (plumbline crossvalidate --groups=...), "
            "and hold out whole groups for the test."
        ),
    )
    return Finding(
        name=_OPTIMISM,
        challenge=_CHALLENGE,
        severity=_optimism_severity(difference, mean_grouped, task),
        message=cross_validation.warning(difference, task, num_groups),
        measures=(
            Measure.of(f"optimism of shuffled folds, in {names[0]}", difference),
            Measure(name=f"{names[0]}, shuffled folds", value=mean_shuffled, kind=kind),
            Measure(name=f"{names[0]}, folds of whole groups", value=mean_grouped, kind=kind),
            Measure(name="groups", value=num_groups, kind="count"),
        ),
        evidence=(_by_group(examples, pool, shuffled, grouped, names[0]),),
        remedies=remedies if leaks else (),
    )


def _optimism_severity(difference: Interval, grouped: float, task: str) -> str:
    mean, low, _ = difference
    if math.isnan(low):
        return "unknown"
    if low <= 0:
        return "none"
    size = mean if task == "classification" else mean / max(grouped, np.finfo(np.float32).tiny)
    return "high" if size >= _GRAVE[task] else "medium" if size >= _MINDED[task] else "low"


def _by_group(examples: Examples, pool: Pool, shuffled: OutOfFold, grouped: OutOfFold, metric: str) -> Table:
    """The groups that are judged too well by shuffled folds, the most so first."""
    by_position = np.full((2, len(examples)), np.nan)
    for row, each in enumerate((shuffled, grouped)):
        by_position[row, each.rows] = each.scores(pool)
    sign = 1 if examples.features.task == "classification" else -1
    rows = []
    both = np.isfinite(by_position).all(axis=0)
    for group in np.unique(examples.groups[both]):
        of_group = both & (examples.groups == group)
        first, second = by_position[:, of_group].mean(axis=1)
        rows.append(
            (
                examples.features.group_names[group],
                int(of_group.sum()),
                float(first),
                float(second),
                sign * (first - second),
            )
        )
    rows.sort(key=lambda row: -row[-1])
    return Table(
        title="Groups by how much better they look in shuffled folds",
        header=("group", "rows", f"{metric}, shuffled", f"{metric}, whole groups", "optimism"),
        rows=tuple(rows[:_MOST_GROUPS]),
    )


def _without_inputs(examples: Examples) -> Pool:
    """What figures of predictions ask of a pool, whose positions are those of the examples."""
    return Pool(
        features=examples.features,
        inputs=np.zeros((len(examples), 0), np.float32),
        labels=examples.labels,
        weights=np.concatenate([split.weights for split in examples.splits.values()]),
        groups=examples.groups,
        rows=examples.rows,
        splits={name: examples.positions(name) for name in examples.splits},
        fingerprint=examples.fingerprint,
    )

"""How much too good shuffled folds look, compared with folds of whole groups."""

import math

import numpy as np

from data.pool import Pool
from diagnostics import cross_validation
from diagnostics.cross_validation import OutOfFold
from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Measure, Question, Remedy, Table
from diagnostics.material import Material
from diagnostics.quality.shared_groups import NO_GROUPS
from diagnostics.severity import Severity
from diagnostics.statistics import Interval
from diagnostics.thresholds import THRESHOLDS

QUESTION = Question("grouped_optimism", "data quality")

# Groups that are listed.
_MOST_GROUPS = 20


def find(material: Material) -> list[Finding]:
    """Compares the trainings on shuffled folds with those on folds of whole groups."""
    if material.examples.groups is None:
        return [QUESTION.cannot_tell(NO_GROUPS)]
    if material.trainings is None:
        return [QUESTION.cannot_tell("no models were trained with shuffled rows held out")]
    return [judge(material.examples, material.trainings.out_of_fold, material.trainings.grouped)]


def judge(examples: Examples, shuffled: OutOfFold, grouped: OutOfFold | None) -> Finding:
    """Compares two sets of out-of-fold predictions.

    Args:
      examples: of a set with groups.
      shuffled: predictions for rows of shuffled folds.
      grouped: the same of folds of whole groups, or None if there are none.
    """
    if grouped is None:
        return QUESTION.cannot_tell("no models were trained with whole groups held out")
    pool, task = _without_inputs(examples), examples.features.task
    difference = cross_validation.optimism(pool, shuffled=shuffled, grouped=grouped)
    if np.isnan(difference[0]):
        return QUESTION.cannot_tell("no row was predicted by both the shuffled and the grouped folds")
    num_groups = len(np.unique(examples.groups[grouped.rows]))
    mean_shuffled, mean_grouped = (float(np.nanmean(each.scores(pool))) for each in (shuffled, grouped))
    metric, kind = ("accuracy", "share") if task == "classification" else ("mean squared error", "number")
    remedy = Remedy(
        text="Choose models and report figures by folds of whole groups (plumbline crossvalidate --groups=...), and "
        "hold out whole groups for the test."
    )
    return QUESTION.found(
        _grade(difference, mean_grouped, task),
        cross_validation.describe_optimism(difference, task, num_groups),
        measures=(
            Measure.of(f"optimism of shuffled folds, in {metric}", difference),
            Measure(name=f"{metric}, shuffled folds", value=mean_shuffled, kind=kind),
            Measure(name=f"{metric}, folds of whole groups", value=mean_grouped, kind=kind),
            Measure(name="groups", value=num_groups, kind="count"),
        ),
        evidence=(_by_group(examples, pool, shuffled, grouped, metric),),
        remedies=(remedy,) if difference[1] > 0 else (),
    )


def _grade(difference: Interval, grouped: float, task: str) -> Severity:
    mean, low, _ = difference
    if math.isnan(low):
        return "unknown"
    if low <= 0:
        return "none"
    if task == "classification":
        return THRESHOLDS.optimism_accuracy.grade(mean)
    return THRESHOLDS.optimism_error.grade(mean / max(grouped, np.finfo(np.float32).tiny))


def _by_group(examples: Examples, pool: Pool, shuffled: OutOfFold, grouped: OutOfFold, metric: str) -> Table:
    """Lists groups by how much better they look in shuffled folds."""
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
    """Makes a pool without inputs, whose positions are those of the examples."""
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


DIAGNOSTIC = Diagnostic(title="grouped_optimism", questions=(QUESTION,), find=find)

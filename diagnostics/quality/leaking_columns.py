"""Columns that predict the label nearly by themselves, as those recorded after the label do."""

import dataclasses

import numpy as np
from sklearn.model_selection import GroupKFold, KFold
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from data.random_streams import Stream, generator
from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Measure, Question, Remedy, Table
from diagnostics.material import Material
from diagnostics.phrases import choose, quote
from diagnostics.quality.columns import NO_COLUMNS, varying
from diagnostics.statistics import Interval, mean_interval, wilson_interval, within
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("leaking_columns", "data quality")

# Rows, and trees times rows, that columns are tried on.
_ROWS, _WORK, _FEWEST_ROWS = 5000, 2_000_000, 20
_FOLDS, _LEAVES, _LEAF_ROWS = 5, 64, 5
# Columns that are listed.
_SHOWN = 20


def find(material: Material) -> list[Finding]:
    """Fits a small tree to each column alone, and judges it on held-out rows; test rows are not read."""
    examples = material.examples
    if examples.features.kind != "table":
        return [QUESTION.none(NO_COLUMNS[examples.features.kind])]
    columns = varying(examples)
    positions = np.flatnonzero(examples.split != "test")
    limit = max(_FEWEST_ROWS, min(_ROWS, _WORK // max(len(columns) * _FOLDS, 1)))
    positions = np.sort(generator(0, Stream.COLUMN_TRIALS).permutation(positions)[:limit])
    if len(positions) < _FEWEST_ROWS:
        return [QUESTION.cannot_tell(f"{pluralize(len(positions), 'row')} outside the test split are too few")]
    if len(np.unique(examples.labels[positions])) < 2:
        return [QUESTION.cannot_tell("all labels are the same outside the test split")]
    if not len(columns):
        return [QUESTION.none("No column varies, so there is nothing to check.")]
    return [_judge(examples, columns, positions)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Score:
    """What a column alone predicts.

    Attributes:
      column: its name.
      value: accuracy or R2 on held-out rows.
      removed: share of the error of the majority or the mean that the column removes.
    """

    column: str
    value: Interval
    removed: Interval


def _judge(examples: Examples, columns: np.ndarray, positions: np.ndarray) -> Finding:
    features, labels = examples.features, examples.labels[positions]
    groups = None if examples.groups is None else examples.groups[positions]
    inputs, folds = examples.read(positions), _split(groups, len(positions))
    scored = [
        _score(features.columns[column].name, inputs[:, column], labels, folds, features.task)
        for column in columns.tolist()
    ]
    removed = np.array([score.removed[0] for score in scored])
    order = np.argsort(-removed, kind="stable").tolist()
    flagged, next_best = _flag(removed, order)
    table = _table([scored[index] for index in order[:_SHOWN]], features.task, len(positions))
    best = scored[order[0]]
    measure = Measure.of(f"share of the error that '{best.column}' alone removes", best.removed, "share")
    if features.task == "classification":
        baseline = float(np.bincount(labels).max() / len(labels))
        against, reached = f"the majority {baseline:.1%}", f"{best.value[0]:.1%}"
    else:
        against, reached = "the mean 0", f"R2 {best.value[0]:.3f}"
    if not flagged:
        message = f"No column alone predicts the label: the best, '{best.column}', reaches {reached} on held-out rows "
        return QUESTION.none(f"{message}({against}).", measures=(measure,), evidence=(table,))
    names = tuple(scored[index].column for index in flagged)
    beside = f"; the next best column removes {max(next_best, 0.0):.0%} of the error" * (len(order) > len(names))
    return QUESTION.found(
        "high" if best.removed[0] >= THRESHOLDS.perfect_column else "medium",
        f"{quote(names)}: {choose(len(names), 'this column alone reaches', 'each of these alone reaches up to')} "
        f"{reached} on held-out rows ({against}{beside}). That may be legitimate. Often such a column is recorded "
        "after the label or derived from it: check that it is known when predictions are made.",
        measures=(measure, Measure(name="the same of the next best column", value=next_best, kind="share")),
        evidence=(table,),
        remedies=(
            Remedy(text="Leave out what is not known when predictions are made.", overrides={"data.ignore": names}),
        ),
    )


def _flag(removed: np.ndarray, order: list[int]) -> tuple[list[int], float]:
    """The columns that leak, the best first, and the share of the error that the next best one removes.

    Perfect columns are not compared with each other: two copies of the label do not clear each other.
    """
    flagged = [index for index in order if removed[index] >= THRESHOLDS.perfect_column]
    others = removed[removed < THRESHOLDS.perfect_column]
    next_best = float(others.max()) if len(others) else 0.0
    if not flagged and removed[order[0]] >= THRESHOLDS.suspicious_column:
        next_best = float(removed[order[1]]) if len(order) > 1 else 0.0
        if len(order) > 1 and removed[order[0]] - next_best >= THRESHOLDS.suspicious_lead:
            flagged = [order[0]]
    return flagged, next_best


def _table(scored: list[_Score], task: str, num_rows: int) -> Table:
    return Table(
        title=f"What each column alone predicts, on {num_rows} held-out rows",
        header=(
            "column",
            "accuracy" if task == "classification" else "R2",
            "95 % interval",
            "share of the error removed",
        ),
        rows=tuple(
            (
                score.column,
                score.value[0],
                f"{score.value[1]:.4f} to {score.value[2]:.4f}",
                float(score.removed[0]),
            )
            for score in scored
        ),
    )


def _split(groups: np.ndarray | None, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and held-out rows of each fold; whole groups if there are several."""
    rows = np.zeros((count, 1))
    if groups is not None and (present := len(np.unique(groups))) > 1:
        return list(GroupKFold(min(_FOLDS, present)).split(rows, groups=groups))
    return list(KFold(_FOLDS, shuffle=True, random_state=0).split(rows))


def _score(
    column: str, values: np.ndarray, labels: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], task: str
) -> _Score:
    """Scores a small tree on one column (n,); a tree separates any intervals and categories, and reads gaps."""
    model = DecisionTreeClassifier if task == "classification" else DecisionTreeRegressor
    predicted = np.zeros(len(labels), labels.dtype)
    r2 = []
    for train, held_out in folds:
        tree = model(max_leaf_nodes=_LEAVES, min_samples_leaf=_LEAF_ROWS, random_state=0).fit(
            values[train, None], labels[train]
        )
        predicted[held_out] = tree.predict(values[held_out, None])
        if task == "regression" and len(held_out) > 1:
            r2.append(tree.score(values[held_out, None], labels[held_out]))
    if task == "regression":
        interval = mean_interval(r2, overlap=1 / max(len(folds) - 1, 1))
        return _Score(column=column, value=interval, removed=within(interval, -1, 1))
    accuracy = wilson_interval(int((predicted == labels).sum()), len(labels))
    majority = float(np.bincount(labels).max() / len(labels))
    removed = tuple(float((value - majority) / (1 - majority)) for value in accuracy)
    return _Score(column=column, value=accuracy, removed=removed)


DIAGNOSTIC = Diagnostic(title="leaking_columns", questions=(QUESTION,), find=find)

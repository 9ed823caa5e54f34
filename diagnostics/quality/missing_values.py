"""Missing values of a table: how many there are, and where."""

import dataclasses

import numpy as np

from data.features import MISSING, Features
from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Measure, Question, Remedy, Rows, Table
from diagnostics.material import Material
from diagnostics.phrases import choose, quote
from diagnostics.severity import Severity
from diagnostics.statistics import wilson_interval
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("missing_values", "data quality")

NOT_A_TABLE = {
    "image": "Nothing can be missing in an image: one that cannot be decoded counts as corrupt.",
    "text": "Nothing can be missing in a text: a set with an empty one is an error.",
}
"""Why images and texts have no missing values."""

# Rows that are listed.
_SHOWN = 20


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Gaps:
    """Numbers of missing values.

    Attributes:
      by_split: of each column (F,), for each split.
      by_row: of each row (N,).
    """

    by_split: dict[str, np.ndarray]
    by_row: np.ndarray

    @property
    def by_column(self) -> np.ndarray:
        """Missing values of each column (F,), over all splits."""
        return np.sum(list(self.by_split.values()), axis=0)


def find(material: Material) -> list[Finding]:
    """Counts missing values by column, row and split."""
    examples = material.examples
    if examples.features.kind != "table":
        return [QUESTION.none(NOT_A_TABLE[examples.features.kind])]
    gaps = count(examples)
    columns = examples.features.columns
    rows = {name: int((gaps.by_row[examples.positions(name)] > 0).sum()) for name in examples.splits}
    total = sum(rows.values())
    if not total:
        message = f"No value is missing in {pluralize(len(examples), 'row')} of {pluralize(len(columns), 'column')}."
        measures = (Measure.of("rows with missing values", wilson_interval(0, len(examples)), "share"),)
        return [QUESTION.none(message, measures=measures)]
    shares = gaps.by_column / len(examples)
    worst = int(shares.argmax())
    found = np.flatnonzero(gaps.by_column)
    # A number without a gap in training gets no indicator, so the model cannot tell imputed from measured values.
    only_later = [index for index in found.tolist() if not gaps.by_split["train"][index]]
    mostly_empty = np.flatnonzero(shares >= THRESHOLDS.mostly_missing).tolist()
    message = _message(examples, rows, shares, worst, len(found))
    if mostly_empty:
        names = quote(columns[index].name for index in mostly_empty)
        message += f" {names}: more than half is imputed rather than measured."
    if only_later:
        names = quote(columns[index].name for index in only_later)
        message += f" {names}: no gap in training, so the model never learned what a gap means."
    return [
        QUESTION.found(
            _grade(shares, bool(only_later)),
            message,
            measures=(
                Measure.of(
                    f"missing in '{columns[worst].name}'",
                    wilson_interval(int(gaps.by_column[worst]), len(examples)),
                    "share",
                ),
                Measure.of("rows with missing values", wilson_interval(total, len(examples)), "share"),
                *(
                    Measure.of(f"{name} rows with missing values", wilson_interval(rows[name], len(split)), "share")
                    for name, split in examples.splits.items()
                ),
                Measure(name="missing cells", value=float(gaps.by_column.sum()), kind="count"),
            ),
            evidence=(
                _table(examples, gaps, found[np.argsort(-gaps.by_column[found], kind="stable")]),
                _worst_rows(gaps.by_row),
            ),
            remedies=_remedies([columns[index].name for index in mostly_empty]),
        )
    ]


def is_missing(inputs: np.ndarray, features: Features) -> np.ndarray:
    """Returns which cells (n, F) bool of the raw inputs (n, F) of a table are missing."""
    numeric = len(features.numeric_columns)
    return np.concatenate([np.isnan(inputs[:, :numeric]), inputs[:, numeric:] == MISSING], axis=1)


def count(examples: Examples) -> Gaps:
    """Counts the missing values of a table."""
    by_row = np.zeros(len(examples), np.int64)
    by_split = {}
    for name in examples.splits:
        by_split[name] = np.zeros(len(examples.features.columns), np.int64)
        for positions, inputs in examples.blocks(examples.positions(name)):
            missing = is_missing(inputs, examples.features)
            by_row[positions] = missing.sum(axis=1)
            by_split[name] += missing.sum(axis=0)
    return Gaps(by_split=by_split, by_row=by_row)


def _grade(shares: np.ndarray, only_later: bool) -> Severity:
    if shares.mean() >= THRESHOLDS.mostly_missing:
        return "high"
    return "medium" if shares.max() > THRESHOLDS.few_missing or only_later else "low"


def _message(examples: Examples, rows: dict[str, int], shares: np.ndarray, worst: int, num_columns: int) -> str:
    columns, total = examples.features.columns, sum(rows.values())
    by_split = ", ".join(f"{name} {rows[name]} of {len(split)}" for name, split in examples.splits.items())
    return (
        f"{pluralize(total, 'row')} of {len(examples)} ({total / len(examples):.1%}; {by_split}) "
        f"{choose(total, 'has', 'have')} missing values, in {num_columns} of {pluralize(len(columns), 'column')}; most "
        f"are missing in '{columns[worst].name}' ({shares[worst]:.1%}). A missing number is imputed by the column's "
        "median and marked by an indicator; a missing category is a category of its own."
    )


def _table(examples: Examples, gaps: Gaps, order: np.ndarray) -> Table:
    header = ["column"]
    for name in examples.splits:
        header += [f"{name}: missing", f"{name}: share", f"{name}: 95 % interval"]
    rows = []
    for index in order.tolist():
        cells: list[str | float] = [examples.features.columns[index].name]
        for name, split in examples.splits.items():
            share, low, high = wilson_interval(int(gaps.by_split[name][index]), len(split))
            cells += [int(gaps.by_split[name][index]), share, f"{low:.2%} to {high:.2%}"]
        rows.append(tuple(cells))
    return Table(title="Missing values by column and split", header=tuple(header), rows=tuple(rows))


def _worst_rows(by_row: np.ndarray) -> Rows:
    found = np.flatnonzero(by_row)
    shown = found[np.argsort(-by_row[found], kind="stable")][:_SHOWN].tolist()
    return Rows(
        title="Rows with the most missing values",
        clusters=tuple((position,) for position in shown),
        notes=tuple(f"{int(by_row[position])} missing" for position in shown),
        total=len(found),
    )


def _remedies(mostly_empty: list[str]) -> tuple[Remedy, ...]:
    investigate = Remedy(text="Find out why the values are missing, and fill them in at the source where possible.")
    if not mostly_empty:
        return (investigate,)
    text = "Leave out columns that are missing in more than half of the rows."
    return (investigate, Remedy(text=text, overrides={"data.ignore": tuple(mostly_empty)}))


DIAGNOSTIC = Diagnostic(title="missing_values", questions=(QUESTION,), find=find)

"""Columns that repeat another column."""

import hashlib

import numpy as np

from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Measure, Question, Remedy, Table
from diagnostics.material import Material
from diagnostics.phrases import choose
from diagnostics.quality.columns import BLOCK, NO_COLUMNS, varying
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("duplicated_columns", "data quality")

_SCALED = "equal up to scale and offset"
# Distinct values up to which a column is compared as categorical, whatever it holds.
_CATEGORIES = 256
# Rows for each distinct value, and rows beside the most frequent value, without which columns may agree by chance.
_ROWS_A_VALUE, _ROWS_BESIDE = 10, 5
# Columns whose correlations are held at once: 128 MiB.
_MOST_COLUMNS = 4096


def find(material: Material) -> list[Finding]:
    """Looks for pairs of columns that are equal, equal up to scale and offset, or in one-to-one correspondence."""
    examples = material.examples
    if examples.features.kind != "table":
        return [QUESTION.none(NO_COLUMNS[examples.features.kind])]
    columns, chosen = examples.features.columns, varying(examples)
    if len(chosen) > _MOST_COLUMNS:
        return [QUESTION.cannot_tell(f"more than {_MOST_COLUMNS} columns are too many to compare with each other")]
    pairs = _pairs(examples, chosen)
    # The first of a set of equal columns stays.
    redundant = sorted({two for _, two in pairs})
    measures = (Measure(name="columns that repeat another", value=float(len(redundant)), kind="count"),)
    if not pairs:
        message = f"None of {pluralize(len(chosen), 'column')} repeats another one."
        return [QUESTION.none(message, measures=measures)]
    (one, two), how = next(iter(pairs.items()))
    names = tuple(columns[index].name for index in redundant)
    return [
        QUESTION.found(
            "low",
            f"{pluralize(len(redundant), 'column')} of {len(columns)} {choose(len(redundant), 'repeats', 'repeat')} "
            f"another one, such as '{columns[two].name}' and '{columns[one].name}' ({how}). That costs some training "
            "time, and importance is divided between them.",
            measures=measures,
            evidence=(
                Table(
                    title="Columns that repeat another one in all training rows",
                    header=("column", "repeats", "how"),
                    rows=tuple((columns[two].name, columns[one].name, how) for (one, two), how in pairs.items()),
                ),
            ),
            remedies=(Remedy(text="Leave the repetitions out.", overrides={"data.ignore": names}),),
        )
    ]


def _pairs(examples: Examples, columns: np.ndarray) -> dict[tuple[int, int], str]:
    """Pairs of columns that say the same, and how."""
    positions = examples.positions("train")
    numeric = columns[columns < len(examples.features.numeric_columns)]
    pairs: dict[tuple[int, int], str] = {}
    correlation = _correlate(examples, positions, numeric)
    for one, two in np.argwhere(np.triu(np.abs(correlation) >= THRESHOLDS.same_column, 1)).tolist():
        pairs[int(numeric[one]), int(numeric[two])] = _SCALED
    for one, two in _one_to_one(examples, positions, columns):
        pairs.setdefault((one, two), "each value of one goes with one value of the other")
    for (one, two), how in pairs.items():
        if how == _SCALED and _is_equal(examples, positions, one, two):
            pairs[one, two] = "equal"
    return pairs


def _correlate(examples: Examples, positions: np.ndarray, numeric: np.ndarray) -> np.ndarray:
    """Correlations (n, n) of numeric columns (n,); gaps count as the mean, so different gaps lower them."""
    total, count = np.zeros(len(numeric)), np.zeros(len(numeric))
    for _, inputs in examples.blocks(positions, BLOCK):
        values = inputs[:, numeric].astype(np.float64)
        total += np.nansum(values, axis=0)
        count += (~np.isnan(values)).sum(axis=0)
    mean = total / np.maximum(count, 1)
    products = np.zeros((len(numeric), len(numeric)))
    for _, inputs in examples.blocks(positions, BLOCK):
        centred = np.nan_to_num(inputs[:, numeric].astype(np.float64) - mean)
        products += centred.T @ centred
    scale = np.sqrt(np.diag(products))
    # A column that varies only by rounding or by its gaps has no correlation.
    there = scale > 1e-6 * np.abs(mean) * np.sqrt(np.maximum(count, 1))
    scale = np.where(there, scale, np.inf)
    return products / scale[:, None] / scale[None, :]


def _one_to_one(examples: Examples, positions: np.ndarray, columns: np.ndarray) -> list[tuple[int, int]]:
    """Finds pairs of columns of few values that correspond one to one in all rows; a gap is a value.

    The values of a column are numbered in order of appearance; for two such columns the numbers agree row by row.
    """
    known: dict[int, dict[float, int]] = {int(column): {} for column in columns}
    counts = {column: np.zeros(_CATEGORIES + 1, np.int64) for column in known}
    digests = {column: hashlib.sha256() for column in known}
    most = min(_CATEGORIES, len(positions) // _ROWS_A_VALUE)
    for _, inputs in examples.blocks(positions, BLOCK):
        for column in list(known):
            # NaN is equal to nothing, itself included.
            values = np.where(np.isnan(inputs[:, column]), np.inf, inputs[:, column])
            distinct, first, index = np.unique(values, return_index=True, return_inverse=True)
            for place in np.argsort(first).tolist():
                known[column].setdefault(float(distinct[place]), len(known[column]))
            if len(known[column]) > most:
                del known[column]
                continue
            numbers = np.array([known[column][value] for value in distinct.tolist()], np.uint16)[index]
            counts[column] += np.bincount(numbers, minlength=_CATEGORIES + 1)
            digests[column].update(numbers.tobytes())
    seen: dict[bytes, int] = {}
    pairs = []
    for column in known:
        if len(positions) - counts[column].max() < _ROWS_BESIDE:
            continue
        first_column = seen.setdefault(digests[column].digest(), column)
        if first_column != column:
            pairs.append((first_column, column))
    return pairs


def _is_equal(examples: Examples, positions: np.ndarray, one: int, two: int) -> bool:
    return all(
        np.array_equal(inputs[:, one], inputs[:, two], equal_nan=True)
        for _, inputs in examples.blocks(positions, BLOCK)
    )


DIAGNOSTIC = Diagnostic(title="duplicated_columns", questions=(QUESTION,), find=find)

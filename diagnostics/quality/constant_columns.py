"""Columns that have one value in all training rows, and pixels that never change."""

import numpy as np

from data.features import FIRST_CATEGORY
from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Measure, Question, Remedy, Table
from diagnostics.material import Material
from diagnostics.phrases import choose, quote
from diagnostics.quality.columns import BLOCK, NO_COLUMNS, ranges
from diagnostics.quality.missing_values import is_missing
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("constant_columns", "data quality")


def find(material: Material) -> list[Finding]:
    """Looks for constant columns of a table, or for pixels that are the same in all images."""
    kind = material.examples.features.kind
    if kind == "table":
        return [_judge_columns(material.examples)]
    if kind == "image":
        return [_judge_pixels(material.examples)]
    return [QUESTION.none(NO_COLUMNS[kind])]


def _judge_columns(examples: Examples) -> Finding:
    columns = examples.features.columns
    low, high = ranges(examples, examples.positions("train"))
    # A gap is a value like any other: a column of one value and gaps is not constant.
    found = np.flatnonzero(~(low < high))
    outside = int((examples.split != "train").sum())
    measure = Measure(name="constant columns", value=float(len(found)), kind="count")
    if not len(found):
        return QUESTION.none(
            f"None of {pluralize(len(columns), 'column')} is constant in training.", measures=(measure,)
        )
    elsewhere = _count_other_values(examples, found, low[found])
    later = found[elsewhere > 0]
    names = [columns[index].name for index in found.tolist()]
    message = (
        f"{pluralize(len(found), 'column')} of {len(columns)} {choose(len(found), 'has', 'have')} one value in all "
        f"training rows: {quote(names)}. Nothing can be learned from {choose(len(found), 'it', 'them')}."
    )
    if len(later):
        message += (
            f" {quote(columns[index].name for index in later.tolist())} {choose(len(later), 'has', 'have')} other "
            f"values in validation or test, in up to {pluralize(int(elsewhere.max()), 'row')} of {outside}, which the "
            "model has never seen."
        )
    return QUESTION.found(
        THRESHOLDS.unseen_values.grade(elsewhere.max(), unit=outside) if len(later) else "low",
        message,
        measures=(measure, Measure(name="of them varying in other splits", value=float(len(later)), kind="count")),
        evidence=(
            Table(
                title="Columns that are constant in training",
                header=("column", "value", "validation and test rows with another value"),
                rows=tuple(
                    (columns[index].name, _format(examples, index, float(low[index])), int(others))
                    for index, others in zip(found.tolist(), elsewhere.tolist(), strict=True)
                ),
            ),
        ),
        remedies=(Remedy(text="Leave them out.", overrides={"data.ignore": tuple(names)}),),
    )


def _count_other_values(examples: Examples, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Counts the rows (n,) outside training whose value in columns (n,) is not the given one (n,)."""
    others = np.zeros(len(columns), np.int64)
    for _, inputs in examples.blocks(np.flatnonzero(examples.split != "train"), BLOCK):
        inputs = np.where(is_missing(inputs, examples.features), -np.inf, inputs)[:, columns]
        others += (inputs != values[None, :]).sum(axis=0)
    return others


def _format(examples: Examples, index: int, value: float) -> str:
    column = examples.features.columns[index]
    if column.kind != "categorical":
        return f"{value + column.offset:.15g}" if column.offset else f"{value:.6g}"
    return column.categories[int(value) - FIRST_CATEGORY] if value >= FIRST_CATEGORY else "missing"


def _judge_pixels(examples: Examples) -> Finding:
    positions = examples.positions("train")
    low, high = ranges(examples, positions[examples.sound(positions)])
    constant = int((low >= high).sum())
    share = constant / len(low)
    severity = THRESHOLDS.constant_pixels.grade(share)
    message = f"{constant} of {len(low)} values of an image ({share:.1%}) are the same in all training images"
    message += ", which does no harm." if severity == "none" else "; most of an image is border, and could be cropped."
    return QUESTION.found(
        severity,
        message,
        measures=(Measure(name="values of an image that are constant", value=share, kind="share"),),
        remedies=() if severity == "none" else (Remedy(text="Crop the images to the part that varies."),),
    )


DIAGNOSTIC = Diagnostic(title="constant_columns", questions=(QUESTION,), find=find)

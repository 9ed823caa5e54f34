"""Whether the fact that a value is missing predicts the label."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from diagnostics.diagnostic import Diagnostic
from diagnostics.finding import Finding, Measure, Question, Remedy, Table
from diagnostics.material import Material
from diagnostics.quality import missing_values
from diagnostics.quality.missing_values import is_missing
from diagnostics.statistics import (
    Interval,
    bonferroni,
    difference_interval,
    holm,
    nearest_to_zero,
    wilson_interval,
    within,
)
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("informative_missingness", "data quality")

# Expected rows of each cell that an approximate test needs (Cochran 1954).
_EXPECTED = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Comparison:
    """Labels of the rows where a value is missing, compared with the other rows.

    Attributes:
      column: its name.
      count: rows where the value is missing.
      p_value: of the test that labels are distributed alike.
      effect: difference of the class shares or mean labels.
      label: the class whose share differs most; "" for a regression.
      missing: its share, or the mean label, where the value is missing.
      present: the same of the other rows.
    """

    column: str
    count: int
    p_value: float
    effect: Interval
    label: str
    missing: float
    present: float


def find(material: Material) -> list[Finding]:
    """Compares the labels of rows with and without a gap, column by column; test labels are not read."""
    examples, features = material.examples, material.examples.features
    if features.kind != "table":
        return [QUESTION.none(missing_values.NOT_A_TABLE[features.kind])]
    positions = np.flatnonzero(examples.split != "test")
    gaps = missing_values.count(examples)
    cells = np.sum([counts for split, counts in gaps.by_split.items() if split != "test"], axis=0)
    tested = np.flatnonzero((cells > 1) & (cells < len(positions) - 1))
    if not len(tested):
        if not cells.any():
            return [QUESTION.none("No value is missing outside the test split, so no gap can predict the label.")]
        return [QUESTION.cannot_tell("no column has two rows with the value missing and two with it present")]
    labels = examples.labels[positions]
    if len(np.unique(labels)) < 2:
        return [QUESTION.cannot_tell("all labels are the same outside the test split")]
    missing = np.concatenate(
        [is_missing(inputs, features)[:, tested] for _, inputs in examples.blocks(positions)], axis=0
    )
    columns = [(features.columns[index].name, missing[:, place]) for place, index in enumerate(tested)]
    if features.task == "classification":
        compared = [_compare_classes(name, gap, labels, features.class_names) for name, gap in columns]
    else:
        compared = [_compare_values(name, gap, labels) for name, gap in columns]
    p_values = holm([each.p_value for each in compared])
    table = _table(compared, p_values, features.task, features.target)
    # By the part of the effect that is certain.
    certain = np.array([nearest_to_zero(each.effect) for each in compared])
    order = np.argsort(-np.abs(certain), kind="stable").tolist()
    found = [index for index in order if p_values[index] < THRESHOLDS.significance]
    if not found:
        least = float(p_values.min())
        return [
            QUESTION.none(
                f"Missing values do not predict the label, in {pluralize(len(tested), 'column')} with gaps (smallest p "
                f"{least:.2g}, corrected for their number).",
                measures=(Measure(name="smallest p-value (Holm)", value=least, kind="p-value"),),
                evidence=(table,),
            )
        ]
    first = found[0]
    others = f" The same holds for {pluralize(len(found), 'column')} of {len(tested)} with gaps." * (len(found) > 1)
    return [_report(compared[first], certain[first], float(p_values[first]), others, table, labels)]


def _report(
    each: _Comparison, certain: float, p_value: float, others: str, table: Table, labels: np.ndarray
) -> Finding:
    where = f"where '{each.column}' is missing"
    if each.label:
        severity = THRESHOLDS.informative_shares.grade(abs(certain))
        shown = f"the share of '{each.label}' is {each.missing:.1%} {where} and {each.present:.1%} elsewhere"
        measure = Measure.of(f"difference of the share of '{each.label}' {where}", each.effect)
    else:
        severity = THRESHOLDS.informative_means.grade(abs(certain), unit=float(labels.std()))
        shown = f"the mean label is {each.missing:.4g} {where} and {each.present:.4g} elsewhere"
        measure = Measure.of(f"difference of the mean label {where}", each.effect)
    caution = (
        " A gap that predicts this much may be recorded after the label: check that it is known when predictions are "
        "made."
        if severity == "high"
        else " Leaving such rows out, or imputing them silently, would bias the results; the model reads an indicator."
    )
    return QUESTION.found(
        severity,
        f"Missing values predict the label: {shown}.{others}{caution}",
        measures=(measure, Measure(name="p-value (Holm)", value=p_value, kind="p-value")),
        evidence=(table,),
        remedies=(
            Remedy(text="Find out how the gaps arise; keep the rows, and let the model read the gaps as it does."),
            Remedy(
                text=f"Leave '{each.column}' out and see what that costs.", overrides={"data.ignore": (each.column,)}
            ),
        ),
    )


def _table(compared: Sequence[_Comparison], p_values: np.ndarray, task: str, target: str) -> Table:
    what = "share of the class" if task == "classification" else "mean label"
    return Table(
        title="Labels of rows where the value is missing and where it is present",
        header=("column", "missing", what, "where missing", "where present", "difference", "95 % interval", "p (Holm)"),
        rows=tuple(
            (
                each.column,
                each.count,
                each.label or target,
                each.missing,
                each.present,
                each.effect[0],
                f"{each.effect[1]:.3g} to {each.effect[2]:.3g}",
                float(p_values[index]),
            )
            for index, each in sorted(enumerate(compared), key=lambda pair: p_values[pair[0]])
        ),
    )


def _compare_classes(column: str, missing: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> _Comparison:
    """Tests the classes (n,) of rows with a gap (n,) against the others, and finds the class that differs most.

    Fisher's exact test for two classes, else the chi-squared test; if a class is too rare for that, with random tables
    of the same margins.
    """
    counts = np.stack([np.bincount(labels[mask], minlength=len(class_names)) for mask in (missing, ~missing)])
    there = np.flatnonzero(counts.sum(axis=0))
    counts = counts[:, there]
    if counts.shape[1] == 2:
        p_value = stats.fisher_exact(counts).pvalue
    elif stats.contingency.expected_freq(counts).min() >= _EXPECTED:
        p_value = stats.chi2_contingency(counts).pvalue
    else:
        method = stats.MonteCarloMethod(rng=np.random.default_rng(0))
        p_value = stats.chi2_contingency(counts, correction=False, method=method).pvalue
    shares = counts / counts.sum(axis=1, keepdims=True)
    if counts.shape[1] == 2:
        # One of two classes says it all; the second is usually the one of interest.
        chosen, intervals = 1, 1
    else:
        chosen, intervals = int(np.abs(shares[0] - shares[1]).argmax()), counts.shape[1]
    one, two = (
        wilson_interval(int(count), int(total), bonferroni(intervals))
        for count, total in zip(counts[:, chosen], counts.sum(axis=1), strict=True)
    )
    return _Comparison(
        column=column,
        count=int(missing.sum()),
        p_value=float(p_value),
        effect=within(difference_interval(one, two), -1, 1),
        label=class_names[there[chosen]],
        missing=float(shares[0, chosen]),
        present=float(shares[1, chosen]),
    )


def _compare_values(column: str, missing: np.ndarray, labels: np.ndarray) -> _Comparison:
    """Compares numeric labels by the Mann-Whitney test, with the difference of means and Welch's interval."""
    with_gap, without = labels[missing].astype(np.float64), labels[~missing].astype(np.float64)
    means = float(with_gap.mean()), float(without.mean())
    difference = means[0] - means[1]
    effect = (difference,) * 3
    if with_gap.std() + without.std() > 0:
        bounds = stats.ttest_ind(with_gap, without, equal_var=False).confidence_interval()
        effect = (difference, float(bounds.low), float(bounds.high))
    return _Comparison(
        column=column,
        count=int(missing.sum()),
        p_value=float(stats.mannwhitneyu(with_gap, without).pvalue),
        effect=effect,
        label="",
        missing=means[0],
        present=means[1],
    )


DIAGNOSTIC = Diagnostic(title="informative_missingness", questions=(QUESTION,), find=find)

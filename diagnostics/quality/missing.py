"""Missing values: how many there are and where, and whether their being missing predicts the label."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from data.features import MISSING, Features
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Measure, Remedy, Rows, Table, cannot_judge
from diagnostics.statistics import Interval, wilson_interval, within
from plumbline import counted

_CHALLENGE = "data quality"
# Up to this share of a column's values hardly matters, whatever is put in their place (Schafer 1999, section 1).
_FEW = 0.05
# From this share on most of what a model reads, of a column or of the table, was never measured.
_MOST = 0.5
# Difference of class shares from which missing values tell a good deal of the label, and nearly all of it.
_INFORMATIVE, _TELLING = 0.2, 0.5
# The same of means, in standard deviations of the label: a medium effect of Cohen 1988, section 2.2, and far beyond.
_SHIFTED, _FAR = 0.5, 2.0
_SIGNIFICANT = 0.05
# Fewest rows that an approximate test wants in each cell that it expects (Cochran 1954).
_EXPECTED = 5
_SHOWN = 20


def find(examples: Examples) -> list[Finding]:
    """Findings `missing_values` and `informative_missingness`.

    Args:
      examples: of a table; images and texts have nothing that could be missing.
    """
    features = examples.features
    if features.kind != "table":
        message = {
            "image": "Nothing can be missing in an image: one that cannot be decoded counts as corrupt.",
            "text": "Nothing can be missing in a text: a set with an empty one is not read.",
        }[features.kind]
        return [
            Finding(name=name, challenge=_CHALLENGE, severity="none", message=message)
            for name in ("missing_values", "informative_missingness")
        ]
    by_split, by_row = _count(examples)
    return [_missing_values(examples, by_split, by_row), _informative(examples, by_split)]


def is_missing(inputs: np.ndarray, features: Features) -> np.ndarray:
    """Which cells (n, F) bool of the raw inputs (n, F) of a table are missing."""
    numeric = len(features.numeric_columns)
    return np.concatenate([np.isnan(inputs[:, :numeric]), inputs[:, numeric:] == MISSING], axis=1)


def _count(examples: Examples) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Missing cells of each column (F,) by split, and of each row (N,)."""
    by_row = np.zeros(len(examples), np.int64)
    by_split = {}
    for name in examples.splits:
        by_split[name] = np.zeros(len(examples.features.columns), np.int64)
        for positions, inputs in examples.blocks(examples.positions(name)):
            missing = is_missing(inputs, examples.features)
            by_row[positions] = missing.sum(axis=1)
            by_split[name] += missing.sum(axis=0)
    return by_split, by_row


def _missing_values(examples: Examples, by_split: dict[str, np.ndarray], by_row: np.ndarray) -> Finding:
    columns = examples.features.columns
    rows = {name: int((by_row[examples.positions(name)] > 0).sum()) for name in examples.splits}
    total = sum(rows.values())
    if not total:
        return Finding(
            name="missing_values",
            challenge=_CHALLENGE,
            severity="none",
            message=f"No value is missing in {counted(len(examples), 'row')} of {counted(len(columns), 'column')}.",
            measures=(Measure.of("rows with missing values", wilson_interval(0, len(examples)), "share"),),
        )
    cells = np.sum(list(by_split.values()), axis=0)
    shares = cells / len(examples)
    worst = int(shares.argmax())
    gaps = np.flatnonzero(cells)
    # Without a gap in training a number gets no indicator: the model cannot tell a filled value from a measured one.
    only_later = [index for index in gaps.tolist() if not by_split["train"][index]]
    empty = np.flatnonzero(shares >= _MOST)
    severity = "medium" if shares.max() > _FEW or only_later else "low"
    if shares.mean() >= _MOST:
        severity = "high"
    by_name = ", ".join(f"{name} {rows[name]} of {len(split)}" for name, split in examples.splits.items())
    message = (
        f"{counted(total, 'row')} of {len(examples)} ({total / len(examples):.1%}; {by_name}) "
        f"{'has' if total == 1 else 'have'} missing values, in {len(gaps)} of {counted(len(columns), 'column')}; most "
        f"are missing in '{columns[worst].name}' ({shares[worst]:.1%}). The model reads a missing number as the "
        "column's median, with a mark, and a missing category as a category of its own."
    )
    if len(empty):
        message += f" {_named(columns, empty)}: more than half is filled in rather than measured."
    if only_later:
        message += f" {_named(columns, only_later)}: no gap in training, so the model never learned what one means."
    return Finding(
        name="missing_values",
        challenge=_CHALLENGE,
        severity=severity,
        message=message,
        measures=(
            Measure.of(
                f"missing in '{columns[worst].name}'", wilson_interval(int(cells[worst]), len(examples)), "share"
            ),
            Measure.of("rows with missing values", wilson_interval(total, len(examples)), "share"),
            *(
                Measure.of(f"{name} rows with missing values", wilson_interval(rows[name], len(split)), "share")
                for name, split in examples.splits.items()
            ),
            Measure(name="missing cells", value=float(cells.sum()), kind="count"),
        ),
        evidence=(_table(examples, by_split, gaps[np.argsort(-cells[gaps], kind="stable")]), _worst_rows(by_row)),
        remedies=_value_remedies([columns[index].name for index in empty.tolist()]),
    )


def _table(examples: Examples, by_split: dict[str, np.ndarray], order: np.ndarray) -> Table:
    header = ["column"]
    for name in examples.splits:
        header += [f"{name}: missing", f"{name}: share", f"{name}: 95 % interval"]
    rows = []
    for index in order.tolist():
        cells: list[str | float] = [examples.features.columns[index].name]
        for name, split in examples.splits.items():
            share, low, high = wilson_interval(int(by_split[name][index]), len(split))
            cells += [int(by_split[name][index]), share, f"{low:.2%} to {high:.2%}"]
        rows.append(tuple(cells))
    return Table(title="Missing values by column and split", header=tuple(header), rows=tuple(rows))


def _worst_rows(by_row: np.ndarray) -> Rows:
    found = np.flatnonzero(by_row)
    shown = found[np.argsort(-by_row[found], kind="stable")][:_SHOWN].tolist()
    return Rows(
        title="Rows with most missing values",
        clusters=tuple((position,) for position in shown),
        notes=tuple(f"{int(by_row[position])} missing" for position in shown),
        total=len(found),
    )


def _value_remedies(empty: list[str]) -> tuple[Remedy, ...]:
    find_out = Remedy(text="Find out why the values are missing, and fill them at their source where that can be done.")
    if not empty:
        return (find_out,)
    text = "Leave out what is missing in more than half of the rows."
    return (find_out, Remedy(text=text, overrides={"data.ignore": tuple(empty)}))


def _informative(examples: Examples, by_split: dict[str, np.ndarray]) -> Finding:
    """Whether rows with a gap have other labels than rows without; test labels are left alone."""
    name, features = "informative_missingness", examples.features
    positions = np.flatnonzero(examples.split != "test")
    cells = np.sum([counts for split, counts in by_split.items() if split != "test"], axis=0)
    tested = np.flatnonzero((cells > 1) & (cells < len(positions) - 1))
    if not len(tested):
        if not cells.any():
            message = "No value is missing outside the test split, so there is nothing that could predict the label."
            return Finding(name=name, challenge=_CHALLENGE, severity="none", message=message)
        return cannot_judge(name, _CHALLENGE, "no column has two rows with a value missing and two with it there")
    labels = examples.labels[positions]
    if len(np.unique(labels)) < 2:
        return cannot_judge(name, _CHALLENGE, "all labels are the same outside the test split")
    missing = np.concatenate(
        [is_missing(inputs, features)[:, tested] for _, inputs in examples.blocks(positions)], axis=0
    )
    compare = _compare_classes if features.task == "classification" else _compare_values
    compared = [compare(missing[:, index], labels, features.class_names) for index in range(len(tested))]
    p_values = _holm([p_value for p_value, *_ in compared])
    # By the bound that is nearer to no difference at all: what is surely there.
    sure = np.array([_nearest_to_zero(effect) for _, effect, *_ in compared])
    found = [index for index in np.argsort(-np.abs(sure), kind="stable").tolist() if p_values[index] < _SIGNIFICANT]
    unit = "share of the class" if features.task == "classification" else "mean label"
    table = Table(
        title="Labels of rows where the value is missing and where it is there",
        header=("column", "missing", unit, "where missing", "where there", "difference", "95 % interval", "p (Holm)"),
        rows=tuple(
            (
                features.columns[tested[index]].name,
                int(missing[:, index].sum()),
                what or features.target,
                where_missing,
                where_there,
                effect[0],
                f"{effect[1]:.3g} to {effect[2]:.3g}",
                float(p_values[index]),
            )
            for index, (_, effect, what, where_missing, where_there) in sorted(
                enumerate(compared), key=lambda pair: p_values[pair[0]]
            )
        ),
    )
    many = counted(len(tested), "column")
    if not found:
        least = float(p_values.min())
        return Finding(
            name=name,
            challenge=_CHALLENGE,
            severity="none",
            message=f"Whether a value is missing says nothing certain of the label, in {many} with gaps "
            f"(smallest p {least:.2g}, corrected for their number).",
            measures=(Measure(name="smallest p-value (Holm)", value=least, kind="p-value"),),
            evidence=(table,),
        )
    first = found[0]
    _, effect, what, where_missing, where_there = compared[first]
    column = features.columns[tested[first]].name
    if features.task == "classification":
        medium, high = _INFORMATIVE, _TELLING
        shown = (
            f"the share of '{what}' is {where_missing:.1%} where '{column}' is missing and {where_there:.1%} elsewhere"
        )
        measure = Measure.of(f"difference of the share of '{what}' where '{column}' is missing", effect)
    else:
        medium, high = (threshold * float(labels.std()) for threshold in (_SHIFTED, _FAR))
        shown = f"the mean label is {where_missing:.4g} where '{column}' is missing and {where_there:.4g} elsewhere"
        measure = Measure.of(f"difference of the mean label where '{column}' is missing", effect)
    severity = "high" if abs(sure[first]) >= high else "medium" if abs(sure[first]) >= medium else "low"
    others = "" if len(found) == 1 else f" So it is in {counted(len(found), 'column')} of {len(tested)} with gaps."
    caution = (
        " A gap that says so much may well come after the label: ask if it is known when predictions are to be made."
        if severity == "high"
        else " To leave such rows out, or to fill them in silently, would bend the results; the model reads the mark."
    )
    return Finding(
        name=name,
        challenge=_CHALLENGE,
        severity=severity,
        message=f"That a value is missing predicts the label: {shown}.{others}{caution}",
        measures=(measure, Measure(name="p-value (Holm)", value=float(p_values[first]), kind="p-value")),
        evidence=(table,),
        remedies=(
            Remedy(
                text="Find out how the gaps come about; keep the rows and let the model know of the gaps, as it is."
            ),
            Remedy(text=f"Leave '{column}' out and see what it costs.", overrides={"data.ignore": (column,)}),
        ),
    )


def _compare_classes(
    missing: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> tuple[float, Interval, str, float, float]:
    """A test of classes (n,) between rows with a gap (n,) and others, and the class whose share differs most.

    Fisher's exact test of two classes, else chi-squared; where some class is too rare for that, by random tables with
    the same sums.

    Returns:
      p-value, difference of the shares with its interval, name of the class, its share with a gap and without.
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
        # Either of two classes tells it all: the second is the one that is asked about, as a rule.
        chosen, intervals = 1, 1
    else:
        chosen, intervals = int(np.abs(shares[0] - shares[1]).argmax()), counts.shape[1]
    effect = _difference(counts[:, chosen], counts.sum(axis=1), 1 - 0.05 / intervals)
    return float(p_value), effect, class_names[there[chosen]], float(shares[0, chosen]), float(shares[1, chosen])


def _compare_values(
    missing: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> tuple[float, Interval, str, float, float]:
    """As `_compare_classes`, by Mann & Whitney's test, with the difference of means and Welch's interval."""
    del class_names
    with_gap, without = labels[missing].astype(np.float64), labels[~missing].astype(np.float64)
    p_value = stats.mannwhitneyu(with_gap, without).pvalue
    means = float(with_gap.mean()), float(without.mean())
    if with_gap.std() + without.std() > 0:
        bounds = stats.ttest_ind(with_gap, without, equal_var=False).confidence_interval()
        effect = (means[0] - means[1], float(bounds.low), float(bounds.high))
    else:
        effect = (means[0] - means[1],) * 3
    return float(p_value), effect, "", *means


def _difference(counts: np.ndarray, totals: np.ndarray, confidence: float) -> Interval:
    """The difference of two shares by the score intervals of both (Newcombe 1998, method 10)."""
    (one, one_low, one_high), (two, two_low, two_high) = (
        wilson_interval(int(count), int(total), confidence) for count, total in zip(counts, totals, strict=True)
    )
    difference = one - two
    low = difference - np.hypot(one - one_low, two_high - two)
    high = difference + np.hypot(one_high - one, two - two_low)
    return within((difference, low, high), -1, 1)


def _holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values (n,) corrected for their number (Holm 1979)."""
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def _nearest_to_zero(interval: Interval) -> float:
    _, low, high = interval
    return 0.0 if low <= 0 <= high else low if low > 0 else high


def _named(columns: Sequence, indices: Sequence[int] | np.ndarray) -> str:
    names = [f"'{columns[index].name}'" for index in indices]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

"""Compares a sample with the training rows: by three tests of the inputs, one of the labels, and by groups."""

import dataclasses
import itertools
import math

import numpy as np

from data.features import Features
from diagnostics.examples import Examples
from diagnostics.finding import Evidence, Finding, Histogram, Measure, Question, Remedy, Rows, Table
from diagnostics.quality import two_sample
from diagnostics.quality.descriptions import Column, describe
from diagnostics.quality.samples import Sample
from diagnostics.quality.two_sample import ClassifierTest
from diagnostics.severity import Severity, cap, worst
from diagnostics.statistics import auc_interval, holm
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

# Columns, classes, groups and rows that are listed.
_SHOWN = 12
# Intervals that a regression's labels are counted in, where groups are permuted.
_INTERVALS = 256


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """The groups of two samples.

    Attributes:
      count: groups of both samples; 0 if there are none.
      own: groups of the second sample if the first has none of them, else 0.
      p_value: of the MMD test with whole groups permuted; nan if a group is in both samples.
    """

    count: int
    own: int
    p_value: float

    @classmethod
    def of(cls, examples: Examples, first: Sample, second: Sample, vectors: np.ndarray, seed: int) -> "Groups":
        """Compares the groups of two samples with the vectors (n + m, d)."""
        if examples.groups is None:
            return cls(count=0, own=0, p_value=math.nan)
        groups = [examples.groups[side.positions] for side in (first, second) if side.positions is not None]
        count = len(np.unique(np.concatenate(groups)))
        if len(groups) < 2 or np.isin(groups[1], groups[0]).any():
            return cls(count=count, own=0, p_value=math.nan)
        is_second = np.repeat([False, True], [first.count, second.count])
        _, p_value = two_sample.mmd_test(vectors, is_second, groups=np.concatenate(groups), seed=seed)
        return cls(count=count, own=len(np.unique(groups[1])), p_value=p_value)

    @property
    def too_few(self) -> bool:
        """Whether there are so few permutations of the groups that no p-value can be small."""
        return 1 / math.comb(self.count, self.own) > THRESHOLDS.shift_significance

    @property
    def limit(self) -> Severity:
        """The highest severity of a difference: a test of new groups is meant to differ as much as groups do."""
        if not self.own or self.p_value <= THRESHOLDS.shift_significance:
            return "high"
        return "low"

    def describe(self, name: str, differs: bool) -> str:
        """Says in a sentence what the groups mean for the comparison; "" if there are none."""
        if not self.count:
            return ""
        if not self.own:
            return f"Rows come in groups ({self.count}); the p-values assume independent rows and are too small."
        own = f"The {name} set has {pluralize(self.own, 'group')} of its own"
        if not differs:
            return f"{own}."
        if self.p_value <= THRESHOLDS.shift_significance:
            more = "and they differ more than groups differ from each other"
        elif self.too_few:
            more = "and there are too few to tell whether they are special or groups just differ"
        else:
            more = "but they differ no more than groups differ from each other"
        return (
            f"{own} ({self.count - self.own} are trained on), {more} (p = {self.p_value:.2g} with whole groups "
            "permuted)."
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """The comparison of a sample with the training rows.

    Attributes:
      examples: that the samples are from.
      first: sample of the training rows.
      second: the other sample.
      classifier: the classifier two-sample test.
      mmd: squared discrepancy and p-value of the MMD test.
      columns: table of the columns that differ most.
      labels: share of the labels that differ, and p-value, with whole groups permuted if the second sample has groups
        of its own; nan if one side has no labels.
      groups: groups of both.
    """

    examples: Examples
    first: Sample
    second: Sample
    classifier: ClassifierTest
    mmd: tuple[float, float]
    columns: Table
    labels: tuple[float, float]
    groups: Groups

    @property
    def p_inputs(self) -> float:
        """The p-value of all three tests of the inputs, corrected for their number (Bonferroni)."""
        return min(1.0, 3 * min(self.classifier.p_value, self.mmd[1], self.columns.rows[0][3]))

    def report(self, question: Question, remedies: tuple[Remedy, ...]) -> Finding:
        """Turns the comparison into a finding.

        Args:
          question: that it answers.
          remedies: in case something differs.
        """
        level = THRESHOLDS.shift_significance
        inputs: Severity = "none"
        if self.p_inputs <= level:
            inputs = THRESHOLDS.shift_auc.grade(self.classifier.auc[0])
        labels: Severity = "none"
        if self.labels[1] <= level:
            labels = THRESHOLDS.shift_labels.grade(self.labels[0])
        severity = worst(cap(inputs, self.groups.limit), labels)
        sentences = (
            self._describe_inputs(),
            self._describe_labels(),
            self.groups.describe(self.second.name, self.p_inputs <= level),
        )
        shares = _label_shares(self.examples.features, self.first, self.second) if labels != "none" else ()
        return question.found(
            severity,
            " ".join(sentence for sentence in sentences if sentence),
            measures=self._measures(),
            evidence=(*_evidence(self), *shares),
            remedies=remedies if severity != "none" else (),
        )

    def _describe_inputs(self) -> str:
        auc, low, high = self.classifier.auc
        figures = f"AUC {auc:.2f} (95 %: {low:.2f} to {high:.2f}; 0.5 is chance), and p = {self.p_inputs:.2g}"
        figures += " of three tests"
        name = self.second.name
        if self.p_inputs > THRESHOLDS.shift_significance:
            return f"The inputs of the {name} set look like those trained on: a two-sample classifier has {figures}."
        most, _, _, p_value = self.columns.rows[0]
        sentence = f"The inputs of the {name} set differ from those trained on: a two-sample classifier has {figures}."
        return sentence + (f" '{most}' differs most." if p_value <= THRESHOLDS.shift_significance else "")

    def _describe_labels(self) -> str:
        size, p_value = self.labels
        if math.isnan(p_value):
            return ""
        level, permuted = THRESHOLDS.shift_significance, " with whole groups permuted" if self.groups.own else ""
        if p_value <= level:
            change = f"{size:.1%} of them would have to change (p = {p_value:.2g}{permuted})"
            return f"The labels have another distribution: {change}."
        if not self.groups.own:
            return f"The labels have the same distribution (p = {p_value:.2g})."
        if self.groups.too_few:
            return f"There are too few groups to tell whether the labels of new groups differ (p = {p_value:.2g})."
        return f"The labels differ no more than those of groups do (p = {p_value:.2g}{permuted})."

    def _measures(self) -> tuple[Measure, ...]:
        measures = [
            Measure.of("AUC of the two-sample classifier (0.5 is chance)", self.classifier.auc),
            Measure(name="p-value of the two-sample classifier", value=self.classifier.p_value, kind="p-value"),
            Measure(name="maximum mean discrepancy, squared", value=self.mmd[0]),
            Measure(name="p-value of the MMD test", value=self.mmd[1], kind="p-value"),
            Measure(
                name="p-value of the column that differs most, corrected", value=self.columns.rows[0][3], kind="p-value"
            ),
        ]
        if not math.isnan(self.groups.p_value):
            measures.append(
                Measure(name="p-value with whole groups permuted", value=self.groups.p_value, kind="p-value")
            )
        size, p_value = self.labels
        if not math.isnan(p_value):
            measures.append(Measure(name="share of labels that differ", value=size, kind="share"))
            measures.append(Measure(name="p-value of the labels", value=p_value, kind="p-value"))
        for side in (self.first, self.second):
            measures.append(Measure(name=f"rows compared, {side.name}", value=side.count, kind="count"))
        return tuple(measures)


def too_small(first: Sample, second: Sample) -> str:
    """Says why two samples have too few rows for a comparison; "" if they have enough."""
    least = THRESHOLDS.shift_rows
    for side in (first, second):
        if side.count < least:
            return f"the {side.name} set has {pluralize(side.count, 'sound row')}; at least {least} are needed"
    return ""


def compare(examples: Examples, first: Sample, second: Sample, seed: int) -> Comparison:
    """Compares two samples that are not `too_small`.

    Args:
      examples: that the samples are from.
      first: sample of the training rows.
      second: the other sample.
      seed: of the classifier and the permutations.
    """
    is_second = np.repeat([False, True], [first.count, second.count])
    vectors, columns = describe(examples.features, itertools.chain(first.blocks, second.blocks))
    groups = Groups.of(examples, first, second, vectors, seed)
    labels = _compare_labels(examples.features, first, second, seed)
    if groups.own and not math.isnan(labels[1]):
        labels = labels[0], _compare_labels_by_group(examples, first, second, seed)
    return Comparison(
        examples=examples,
        first=first,
        second=second,
        classifier=two_sample.classifier_test(vectors, is_second, seed=seed),
        mmd=two_sample.mmd_test(vectors, is_second, seed=seed),
        columns=_compare_columns(columns, is_second, seed),
        labels=labels,
        groups=groups,
    )


def _compare_labels(features: Features, first: Sample, second: Sample, seed: int) -> tuple[float, float]:
    """Size of the difference and p-value; nan if one side has no labels."""
    if first.labels is None or second.labels is None or not len(second.labels):
        return (math.nan, math.nan)
    if features.task == "regression":
        return two_sample.ks_test(first.labels, second.labels)
    return two_sample.chi_squared_test(_count_labels(features, first, second), seed=seed)


def _compare_labels_by_group(examples: Examples, first: Sample, second: Sample, seed: int) -> float:
    """The p-value of the labels of two splits that share no group: rows of a group may have one label."""
    sides = [examples.positions(side.name) for side in (first, second)]
    _, groups = np.unique(np.concatenate([examples.groups[side] for side in sides]), return_inverse=True)
    labels = np.concatenate([first.labels, second.labels])
    ordered = examples.features.task == "regression"
    if ordered:
        bounds = np.unique(np.quantile(labels, np.linspace(0, 1, _INTERVALS + 1)[1:-1]))
        codes = np.searchsorted(bounds, labels)
    else:
        codes = labels + 1
    counts = np.zeros((groups.max() + 1, codes.max() + 1))
    np.add.at(counts, (groups, codes), 1)
    is_second = np.zeros(len(counts), bool)
    is_second[groups[len(sides[0]) :]] = True
    return two_sample.grouped_test(counts, is_second, ordered=ordered, seed=seed)


def _count_labels(features: Features, first: Sample, second: Sample) -> np.ndarray:
    """Rows (2, C + 1) of each class; the first column is for classes that training does not know, label -1."""
    return np.stack([np.bincount(side.labels + 1, minlength=features.num_outputs + 1) for side in (first, second)])


def _label_shares(features: Features, first: Sample, second: Sample) -> tuple[Table, ...]:
    if features.task == "regression":
        return ()
    counts = _count_labels(features, first, second)
    shares = counts / counts.sum(axis=1, keepdims=True)
    order = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:_SHOWN]
    names = ("(not in training)", *features.class_names)
    return (
        Table(
            title="Classes by how much their shares differ",
            header=("class", first.name, second.name),
            rows=tuple((names[label], float(shares[0, label]), float(shares[1, label])) for label in order),
        ),
    )


def _compare_columns(columns: list[Column], is_second: np.ndarray, seed: int) -> Table:
    """The columns that differ most, with p-values corrected for their number."""
    tested = []
    for column in columns:
        if column.categorical:
            _, codes = np.unique(column.values, return_inverse=True)
            counts = [np.bincount(codes[side], minlength=codes.max() + 1) for side in (~is_second, is_second)]
            tested.append(two_sample.chi_squared_test(np.stack(counts), seed=seed))
        else:
            tested.append(two_sample.ks_test(column.values[~is_second], column.values[is_second]))
    sizes, p_values = (np.array(each) for each in zip(*tested, strict=True))
    corrected = holm(p_values)
    order = np.lexsort((-sizes, corrected))[:_SHOWN]
    return Table(
        title="What differs most",
        header=("what", "how", "size (0 to 1)", "p-value, corrected for their number"),
        rows=tuple(
            (columns[index].name, _difference(columns[index], is_second), float(sizes[index]), float(corrected[index]))
            for index in order
        ),
    )


def _difference(column: Column, is_second: np.ndarray) -> str:
    if column.categorical:
        return "shares of its values"
    sides = [column.values[side] for side in (~is_second, is_second)]
    gaps = [np.isnan(side).mean() for side in sides]
    medians = [f"{np.nanmedian(side):.4g}" if gap < 1 else "none" for side, gap in zip(sides, gaps, strict=True)]
    missing = f"; missing {gaps[0]:.1%}, {gaps[1]:.1%}" if any(gaps) else ""
    return f"median {medians[0]}, {medians[1]}{missing}"


def _evidence(comparison: Comparison) -> tuple[Evidence, ...]:
    examples, first, second = comparison.examples, comparison.first, comparison.second
    rows, scores = comparison.classifier.rows, comparison.classifier.scores
    of_second = rows >= first.count
    evidence: list[Evidence] = [
        Histogram(
            title=f"Probability of being a {second.name} row, by the classifier, on rows it was not trained on",
            label="probability",
            values={first.name: scores[~of_second], second.name: scores[of_second]},
        ),
        comparison.columns,
    ]
    if second.positions is None:
        return tuple(evidence)
    positions = np.concatenate([first.positions, second.positions])[rows]
    if first.classes is not None and (by_class := _by_class(examples, positions, scores, of_second)):
        header = ("class", first.name, second.name, "AUC")
        evidence.append(Table(title="Classes by how well the classifier separates them", header=header, rows=by_class))
    if comparison.groups.count:
        by_group = _by_group(examples, positions, scores)
        header = ("group", "split", "rows", f"probability of {second.name}")
        evidence.append(Table(title=f"Groups by how much they look like {second.name}", header=header, rows=by_group))
    order = np.flatnonzero(of_second)[np.argsort(-scores[of_second], kind="stable")][:_SHOWN]
    evidence.append(
        Rows(
            title=f"Rows of the {second.name} set that are least like those trained on",
            clusters=tuple((int(positions[row]),) for row in order),
            notes=tuple(f"probability {scores[row]:.2f}" for row in order),
            total=int(of_second.sum()),
        )
    )
    return tuple(evidence)


def _by_class(
    examples: Examples, positions: np.ndarray, scores: np.ndarray, of_second: np.ndarray
) -> tuple[tuple[str | float, ...], ...]:
    rows = []
    for label, name in enumerate(examples.features.class_names):
        own = examples.labels[positions] == label
        sizes = int((own & ~of_second).sum()), int((own & of_second).sum())
        if min(sizes) >= THRESHOLDS.shift_rows // 2:
            rows.append((name, *sizes, auc_interval(scores[own], of_second[own])[0]))
    return tuple(sorted(rows, key=lambda row: -row[-1]))[:_SHOWN]


def _by_group(examples: Examples, positions: np.ndarray, scores: np.ndarray) -> tuple[tuple[str | float, ...], ...]:
    groups, split = examples.groups[positions], examples.split[positions]
    rows = []
    for group in np.unique(groups):
        own = groups == group
        name = examples.features.group_names[group]
        rows.append((name, ", ".join(sorted(set(split[own]))), int(own.sum()), float(scores[own].mean())))
    return tuple(sorted(rows, key=lambda row: -row[-1]))[:_SHOWN]

"""Whether the test, or a reference set, looks like what a model is trained on; and if not, what differs most."""

import dataclasses
import itertools
import math
from collections.abc import Iterable

import numpy as np

from data.features import Features
from diagnostics.examples import Examples
from diagnostics.finding import Evidence, Finding, Histogram, Measure, Remedy, Rows, Table, cannot_judge
from diagnostics.quality import two_sample
from diagnostics.quality.descriptions import Column, described
from diagnostics.quality.reference import MOST_ROWS, Reference, read_reference
from diagnostics.quality.two_sample import Told
from plumbline import counted

__all__ = ["Reference", "find", "read_reference"]

_CHALLENGE = "data quality"
_TEST, _REFERENCE = "train_test_shift", "reference_shift"
# P-value from which on a difference counts, for each question that is asked, and the rows that it takes to ask it.
_ALPHA, _LEAST_ROWS = 0.01, 20
# With many rows everything differs: what a difference is worth is told by its size. AUC, or share of the labels.
_AUC_SEVERITIES = ((0.75, "high"), (0.6, "medium"), (0.0, "low"))
_LABEL_SEVERITIES = ((0.15, "high"), (0.05, "medium"), (0.0, "low"))
_ORDER = ("none", "low", "medium", "high")
# Rows that are read at once, and entries of tables that are shown.
_READ_AT_ONCE, _SHOWN = 64, 12


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Sample:
    """Examples of one side.

    Attributes:
      name: such as "test".
      count: n, of those that are compared.
      blocks: their raw inputs, some at a time; to be read once.
      classes: (n,) of these rows, or None.
      labels: (N,) of all rows of the side, not of the sample alone; or None.
      positions: (n,) in the `Examples`; None for those of a reference.
      total: N.
    """

    name: str
    count: int
    blocks: Iterable[np.ndarray]
    classes: np.ndarray | None
    labels: np.ndarray | None
    positions: np.ndarray | None
    total: int


def find(examples: Examples, *, reference: Reference | None = None, seed: int = 0) -> list[Finding]:
    """Compares the training rows with those of the test and, where there is one, of a reference set.

    Args:
      examples: of the set.
      reference: of `read_reference`.
      seed: of the samples (at most `MOST_ROWS` of each side), the classifier and the permutations.

    Returns:
      The finding "train_test_shift" and, with a reference, "reference_shift".
    """
    train, test = _sample(examples, "train", seed), _sample(examples, "test", seed + 1)
    findings = [_compared(_TEST, examples, train, test, seed)]
    if reference is not None:
        inputs = reference.inputs
        other = _Sample(
            name="reference",
            count=len(inputs),
            blocks=(inputs[start : start + _READ_AT_ONCE] for start in range(0, len(inputs), _READ_AT_ONCE)),
            classes=None,
            labels=reference.labels,
            positions=None,
            total=reference.total,
        )
        findings.append(_compared(_REFERENCE, examples, _sample(examples, "train", seed), other, seed))
    return findings


def _sample(examples: Examples, split: str, seed: int) -> _Sample:
    positions = examples.positions(split)
    total, labels = len(positions), examples.labels[positions]
    if len(positions) > MOST_ROWS:
        positions = np.sort(np.random.default_rng(seed).choice(positions, MOST_ROWS, replace=False))
    positions = positions[examples.sound(positions)]
    return _Sample(
        name=split,
        count=len(positions),
        blocks=(inputs for _, inputs in examples.blocks(positions, _READ_AT_ONCE)),
        classes=examples.labels[positions] if examples.features.task == "classification" else None,
        labels=labels,
        positions=positions,
        total=total,
    )


def _compared(name: str, examples: Examples, first: _Sample, second: _Sample, seed: int) -> Finding:
    for side in (first, second):
        if side.count < _LEAST_ROWS:
            reason = f"the {side.name} set has {counted(side.count, 'sound row')}; at least {_LEAST_ROWS} are needed"
            return cannot_judge(name, _CHALLENGE, reason)
    is_second = np.repeat([False, True], [first.count, second.count])
    vectors, columns = described(examples.features, itertools.chain(first.blocks, second.blocks))
    told = two_sample.told_apart(vectors, is_second, seed=seed)
    squared, p_discrepancy = two_sample.discrepancy(vectors, is_second, seed=seed)
    differing = _differing(columns, is_second, seed)
    # Any of the three will do, so their p-values count three times (Bonferroni).
    p_inputs = min(1.0, 3 * min(told.p_value, p_discrepancy, differing.rows[0][3]))
    groups = _Groups.of(examples, first, second, vectors, seed)
    severity = "none" if p_inputs > _ALPHA else _by_size(told.auc[0], _AUC_SEVERITIES)
    severity = min(severity, groups.gravest, key=_ORDER.index)
    label_size, p_labels = _labels_differ(examples.features, first, second, seed)
    label_severity = "none" if not p_labels <= _ALPHA else _by_size(label_size, _LABEL_SEVERITIES)
    worst = max(severity, label_severity, key=_ORDER.index)
    measures = [
        Measure.of("AUC of a classifier that tells the two apart (0.5 is chance)", told.auc),
        Measure(name="p-value of the classifier", value=told.p_value, kind="p-value"),
        Measure(name="maximum mean discrepancy, squared", value=squared),
        Measure(name="p-value of the discrepancy", value=p_discrepancy, kind="p-value"),
        Measure(name="p-value of what differs most, corrected", value=differing.rows[0][3], kind="p-value"),
    ]
    if not math.isnan(groups.p_value):
        measures.append(Measure(name="p-value with whole groups dealt anew", value=groups.p_value, kind="p-value"))
    if not math.isnan(p_labels):
        measures.append(Measure(name="share of labels that differ", value=label_size, kind="share"))
        measures.append(Measure(name="p-value of the labels", value=p_labels, kind="p-value"))
    measures.append(Measure(name=f"rows compared, {first.name}", value=first.count, kind="count"))
    measures.append(Measure(name=f"rows compared, {second.name}", value=second.count, kind="count"))
    return Finding(
        name=name,
        challenge=_CHALLENGE,
        severity=worst,
        message=" ".join(
            [
                _said_of_inputs(second, told, p_inputs, differing),
                *_said_of_labels(label_size, p_labels),
                *groups.said(second.name, p_inputs <= _ALPHA),
            ]
        ),
        measures=tuple(measures),
        evidence=(
            *_evidence(examples, first, second, told, differing, groups),
            *(_label_shares(examples.features, first, second) if label_severity != "none" else ()),
        ),
        remedies=_remedies(name, worst, groups) if worst != "none" else (),
    )


def _by_size(size: float, severities: tuple[tuple[float, str], ...]) -> str:
    return next(severity for least, severity in severities if size >= least)


def _said_of_inputs(second: _Sample, told: Told, p_value: float, differing: Table) -> str:
    auc, low, high = told.auc
    figures = f"AUC {auc:.2f} (95 %: {low:.2f} to {high:.2f}; 0.5 is chance), and p = {p_value:.2g} of three tests"
    if p_value > _ALPHA:
        return f"The inputs of the {second.name} set look like those trained on: a classifier has {figures}."
    most = f" '{differing.rows[0][0]}' differs most." if differing.rows[0][3] <= _ALPHA else ""
    return f"The inputs of the {second.name} set differ from those trained on: a classifier has {figures}.{most}"


def _said_of_labels(size: float, p_value: float) -> list[str]:
    if math.isnan(p_value):
        return []
    if p_value > _ALPHA:
        return [f"The labels are spread alike (p = {p_value:.2g})."]
    return [f"The labels are spread otherwise: {size:.1%} of them would have to change (p = {p_value:.2g})."]


def _remedies(name: str, severity: str, groups: "_Groups") -> tuple[Remedy, ...]:
    if name == _REFERENCE:
        return (
            Remedy(text="Label some rows of the reference set and train on them as well."),
            Remedy(text="Judge on rows of the reference set: figures of the test do not hold for it."),
        )
    if groups.own:
        return (
            Remedy(
                text="Where the test is meant to be of new groups, leave it; more groups in training, rather than more "
                "rows, make up for it."
            ),
        )
    return (
        Remedy(
            text="If the test stands for what the model will meet, train on rows like it; if not, hold out training "
            "rows at random.",
            overrides={"data.test": "20 percent"},
        ),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Groups:
    """What groups have to do with it.

    Attributes:
      count: groups of either side; 0 where there are none.
      own: groups of the second side that the first does not have, if these are all of it; else 0.
      p_value: of the discrepancy where whole groups are dealt anew; nan where a group is on both sides.
    """

    count: int
    own: int
    p_value: float

    @classmethod
    def of(cls, examples: Examples, first: _Sample, second: _Sample, vectors: np.ndarray, seed: int) -> "_Groups":
        if examples.groups is None:
            return cls(count=0, own=0, p_value=math.nan)
        groups = [examples.groups[side.positions] for side in (first, second) if side.positions is not None]
        count = len(np.unique(np.concatenate(groups)))
        if len(groups) < 2 or np.isin(groups[1], groups[0]).any():
            return cls(count=count, own=0, p_value=math.nan)
        is_second = np.repeat([False, True], [first.count, second.count])
        _, p_value = two_sample.discrepancy(vectors, is_second, groups=np.concatenate(groups), seed=seed)
        return cls(count=count, own=len(np.unique(groups[1])), p_value=p_value)

    @property
    def too_few(self) -> bool:
        """Whether there are so few ways to deal them out that no p-value can be small."""
        return 1 / math.comb(self.count, self.own) > _ALPHA

    @property
    def gravest(self) -> str:
        """How grave a difference can be: one that groups have among themselves is what the test is there to show."""
        if not self.own or self.p_value <= _ALPHA:
            return "high"
        return "medium" if self.too_few else "low"

    def said(self, name: str, differs: bool) -> list[str]:
        if not self.count:
            return []
        if not self.own:
            return [
                f"The rows come in groups ({self.count}), and p-values take them for independent: they are too small."
            ]
        if not differs:
            return [f"The {name} set has {counted(self.own, 'group')} of its own."]
        if self.p_value <= _ALPHA:
            more = "and they differ more than groups do among themselves"
        elif self.too_few:
            more = "and there are too few to tell whether they are unlike the others, or groups just differ"
        else:
            more = "but they differ from the others no more than groups do among themselves"
        return [
            f"The {name} set has {counted(self.own, 'group')} of its own ({self.count - self.own} are trained on), "
            f"{more} (p = {self.p_value:.2g} with whole groups dealt anew)."
        ]


def _labels_differ(features: Features, first: _Sample, second: _Sample, seed: int) -> tuple[float, float]:
    """Size of the difference and p-value; nan where one side has no labels."""
    if first.labels is None or second.labels is None or not len(second.labels):
        return (math.nan, math.nan)
    if features.task == "regression":
        return two_sample.values_differ(first.labels, second.labels)
    return two_sample.shares_differ(_label_counts(features, first, second), seed=seed)


def _label_counts(features: Features, first: _Sample, second: _Sample) -> np.ndarray:
    """Rows (2, C + 1) of each class, of which the first is what the training does not know: -1."""
    return np.stack([np.bincount(side.labels + 1, minlength=features.num_outputs + 1) for side in (first, second)])


def _label_shares(features: Features, first: _Sample, second: _Sample) -> tuple[Table, ...]:
    if features.task == "regression":
        return ()
    counts = _label_counts(features, first, second)
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


def _differing(columns: list[Column], is_second: np.ndarray, seed: int) -> Table:
    """The columns that differ most, with p-values corrected for how many are looked at."""
    found = []
    for column in columns:
        if column.categorical:
            _, codes = np.unique(column.values, return_inverse=True)
            counts = [np.bincount(codes[side], minlength=codes.max() + 1) for side in (~is_second, is_second)]
            found.append(two_sample.shares_differ(np.stack(counts), seed=seed))
        else:
            found.append(two_sample.values_differ(column.values[~is_second], column.values[is_second]))
    sizes, p_values = (np.array(each) for each in zip(*found, strict=True))
    corrected = two_sample.holm(p_values)
    order = np.lexsort((-sizes, corrected))[:_SHOWN]
    return Table(
        title="What differs most",
        header=("what", "how", "size (0 to 1)", "p-value, corrected for their number"),
        rows=tuple(
            (columns[index].name, _way(columns[index], is_second), float(sizes[index]), float(corrected[index]))
            for index in order
        ),
    )


def _way(column: Column, is_second: np.ndarray) -> str:
    if column.categorical:
        return "shares of its values"
    sides = [column.values[side] for side in (~is_second, is_second)]
    gaps = [np.isnan(side).mean() for side in sides]
    told = [f"{np.nanmedian(side):.4g}" if gap < 1 else "none" for side, gap in zip(sides, gaps, strict=True)]
    missing = f"; missing {gaps[0]:.1%}, {gaps[1]:.1%}" if any(gaps) else ""
    return f"median {told[0]}, {told[1]}{missing}"


def _evidence(
    examples: Examples, first: _Sample, second: _Sample, told: Told, differing: Table, groups: _Groups
) -> tuple[Evidence, ...]:
    of_second = told.rows >= first.count
    evidence: list[Evidence] = [
        Histogram(
            title=f"How like the {second.name} set rows look to the classifier, which was not trained on them",
            label="probability",
            values={first.name: told.scores[~of_second], second.name: told.scores[of_second]},
        ),
        differing,
    ]
    if second.positions is None:
        return tuple(evidence)
    positions = np.concatenate([first.positions, second.positions])[told.rows]
    if first.classes is not None and (rows := _by_class(examples, positions, told.scores, of_second)):
        header = ("class", first.name, second.name, "AUC")
        evidence.append(Table(title="Classes by how well the two are told apart", header=header, rows=rows))
    if groups.count:
        rows = _by_group(examples, positions, told.scores)
        header = ("group", "split", "rows", f"looks like {second.name}")
        evidence.append(Table(title=f"Groups by how like the {second.name} set they look", header=header, rows=rows))
    order = np.flatnonzero(of_second)[np.argsort(-told.scores[of_second], kind="stable")][:_SHOWN]
    evidence.append(
        Rows(
            title=f"Rows of the {second.name} set that are least like those trained on",
            clusters=tuple((int(positions[row]),) for row in order),
            notes=tuple(f"probability {told.scores[row]:.2f}" for row in order),
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
        if min(sizes) >= _LEAST_ROWS // 2:
            rows.append((name, *sizes, two_sample.auc_interval(scores[own], of_second[own])[0]))
    return tuple(sorted(rows, key=lambda row: -row[-1]))[:_SHOWN]


def _by_group(examples: Examples, positions: np.ndarray, scores: np.ndarray) -> tuple[tuple[str | float, ...], ...]:
    groups, split = examples.groups[positions], examples.split[positions]
    rows = []
    for group in np.unique(groups):
        own = groups == group
        name = examples.features.group_names[group]
        rows.append((name, ", ".join(sorted(set(split[own]))), int(own.sum()), float(scores[own].mean())))
    return tuple(sorted(rows, key=lambda row: -row[-1]))[:_SHOWN]

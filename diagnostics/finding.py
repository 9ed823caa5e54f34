"""What a diagnostic reports: how severe it is, the figures, the evidence, and what can be done about it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diagnostics.severity import SEVERITIES, Severity
from diagnostics.statistics import Interval

CHALLENGES = (
    "data quality",
    "data quantity",
    "fit",
    "tuning",
    "cost",
    "interpretability",
    "fairness",
    "transfer",
    "deployment",
    "remedies",
)
"""The subjects of findings, in the order in which a report shows them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure, with its interval if it has one.

    Attributes:
      name: what is measured, such as "training rows with an exact copy".
      value: the estimate.
      low: lower bound of the 95 % interval; nan without an interval.
      high: upper bound, likewise.
      kind: "count", "share" (0 to 1), "p-value" or "number".
    """

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    kind: str = "number"

    @classmethod
    def of(cls, name: str, interval: Interval, kind: str = "number") -> "Measure":
        """Makes a figure of an interval of `diagnostics.statistics`."""
        value, low, high = map(float, interval)
        return cls(name=name, value=value, low=low, high=high, kind=kind)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Examples as evidence, the worst first.

    Attributes:
      title: what they are.
      clusters: positions in the `Examples`; those of one entry belong together, such as the copies of one row.
      notes: a few words on each cluster, such as the distance of a pair; () for none.
      total: number of clusters found, of which these are the first.
    """

    title: str
    clusters: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...] = ()
    total: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Figures in rows and columns.

    Attributes:
      title: what they are.
      header: names of the columns.
      rows: a text or number for each column.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """A histogram of one or several sets of values.

    Attributes:
      title: what the values are.
      label: of the axis, with the unit.
      values: (n,) for each name, such as that of a split.
      marks: positions of vertical lines, such as thresholds, by name.
    """

    title: str
    label: str
    values: Mapping[str, np.ndarray]
    marks: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Lines over a common axis.

    Attributes:
      title: what they show.
      x_label: of the horizontal axis, with the unit.
      y_label: of the vertical axis, with the unit.
      lines: by name, (n, 2) of x and y, or (n, 4) with the bounds of the 95 % interval of y.
      log_x: whether x is drawn on a logarithmic scale.
    """

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, np.ndarray]
    log_x: bool = False


Evidence = Rows | Table | Histogram | Curves


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remedy:
    """A change that may help, in a form that can be applied and measured.

    Attributes:
      text: the change in words.
      overrides: config fields and their new values; empty if no config can make the change.
    """

    text: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Finding:
    """The answer of a diagnostic to one question.

    Attributes:
      name: of the question, such as "exact_duplicates"; an audit has one finding of each name.
      challenge: one of `CHALLENGES`.
      severity: one of `SEVERITIES`.
      message: the answer in a sentence or two, with the figures that matter.
      measures: the figures; the severity depends on the first.
      evidence: examples, tables and curves that support the answer.
      remedies: what can be done, the most promising first.
      drop: sorted positions in the `Examples` that a training may be better off without, or None; `data.drop` takes
        them by the finding's name.
      weights: (N,) float32 for the N examples, from 0 to 1, or None; `data.weights` takes them by the finding's name.
      spoiled: positions of test rows that measure nothing any more, such as copies of training rows; or None.
    """

    name: str
    challenge: str
    severity: Severity
    message: str
    measures: tuple[Measure, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    drop: np.ndarray | None = None
    weights: np.ndarray | None = None
    spoiled: np.ndarray | None = None

    def __post_init__(self):
        if self.challenge not in CHALLENGES:
            raise ValueError(f"{self.name}: unknown challenge '{self.challenge}'; known: {', '.join(CHALLENGES)}")
        if self.severity not in SEVERITIES:
            raise ValueError(f"{self.name}: unknown severity '{self.severity}'; known: {', '.join(SEVERITIES)}")


@dataclasses.dataclass(frozen=True)
class Question:
    """A question that a diagnostic answers with one finding.

    Attributes:
      name: of the finding; unique in an audit.
      challenge: one of `CHALLENGES`.
    """

    name: str
    challenge: str

    def none(self, message: str, **fields: Any) -> Finding:
        """Reports that nothing was found.

        Args:
          message: what was looked at, in a sentence.
          **fields: further fields of the finding, such as measures.
        """
        return Finding(name=self.name, challenge=self.challenge, severity="none", message=message, **fields)

    def found(self, severity: Severity, message: str, **fields: Any) -> Finding:
        """Reports what was found.

        Args:
          severity: one of `SEVERITIES`.
          message: what was found, in a sentence or two.
          **fields: further fields of the finding, such as measures and evidence.
        """
        return Finding(name=self.name, challenge=self.challenge, severity=severity, message=message, **fields)

    def cannot_tell(self, reason: str, **fields: Any) -> Finding:
        """Reports that the question cannot be answered.

        Args:
          reason: why not, as a clause: "the set has no groups".
          **fields: further fields of the finding.
        """
        message = f"Cannot tell: {reason.rstrip('.')}."
        return Finding(name=self.name, challenge=self.challenge, severity="unknown", message=message, **fields)


def drop_remedy(finding: str, drop: np.ndarray, text: str) -> tuple[Remedy, ...]:
    """Returns the remedy that leaves out the rows a finding names, or () if it names none.

    Args:
      finding: its name.
      drop: (n,) positions.
      text: the remedy in words.
    """
    return (Remedy(text=text, overrides={"data.drop": f"findings:{finding}"}),) if len(drop) else ()


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Sorts findings by severity; those of one severity keep their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))

"""What a diagnostic finds: how grave it is, how much of it there is, where it shows, and what can be done about it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diagnostics.statistics import Interval

CHALLENGES = ("data quality", "data quantity", "fit", "remedies")
SEVERITIES = ("high", "medium", "low", "none", "unknown")
"""From what spoils the training or its evaluation, over what costs some of it and what is good to know, to what was
looked for and not found; "unknown" is said by a diagnostic that cannot judge."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure, with its interval where it has one.

    Attributes:
      name: what is measured, such as "training rows with an exact copy".
      value: of it.
      low: lower bound of the 95 % interval; nan where there is none.
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
        """The figure of an interval of `diagnostics.statistics`."""
        value, low, high = map(float, interval)
        return cls(name=name, value=value, low=low, high=high, kind=kind)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Examples that show it, the worst first.

    Attributes:
      title: what they are.
      clusters: positions in the `Examples`; those of one entry belong together, as the copies of one row do.
      notes: a few words on each cluster, such as the distance of a pair; () for none.
      total: clusters that were found; these may be the first of many.
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
      rows: of as many cells: texts or numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """How values are spread.

    Attributes:
      title: what they are.
      label: of the axis, with the unit.
      values: by the name of what they are of, such as a split: (n,) each.
      marks: thresholds, by name.
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
    """What can be done, so that it can be tried and measured.

    Attributes:
      text: in words.
      overrides: of the config, by the path of the field; empty where it takes more than a config.
    """

    text: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Finding:
    """What a diagnostic has to say on one question.

    Attributes:
      name: of the question, such as "exact_duplicates"; one finding of each name in an audit.
      challenge: one of `CHALLENGES`.
      severity: one of `SEVERITIES`.
      message: the answer in a sentence or two, with the figures that matter.
      measures: the figures; the first is the one that the severity hangs on.
      evidence: where it shows.
      remedies: what can be done; the likeliest first.
      drop: positions in the `Examples`, sorted, which a training is better off without; `data.drop` takes them by the
        finding's name.
      weights: (N,) float32 of each of the N examples, from 0 to 1, which `data.weights` takes by the finding's name;
        None for none.
      spoiled: positions of test rows that say nothing any more, as there are copies that are trained on; None for none.
    """

    name: str
    challenge: str
    severity: str
    message: str
    measures: tuple[Measure, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    drop: np.ndarray | None = None
    weights: np.ndarray | None = None
    spoiled: np.ndarray | None = None

    def __post_init__(self):
        if self.challenge not in CHALLENGES or self.severity not in SEVERITIES:
            raise ValueError(f"{self.name}: '{self.challenge}', '{self.severity}'")


def cannot_judge(name: str, challenge: str, reason: str) -> Finding:
    """The finding of a diagnostic that cannot judge.

    Args:
      name: of the question.
      challenge: one of `CHALLENGES`.
      reason: why not, as a clause: "the set has no groups".
    """
    return Finding(name=name, challenge=challenge, severity="unknown", message=f"Cannot judge: {reason}.")


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """The findings by severity; of those alike in the order given."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))

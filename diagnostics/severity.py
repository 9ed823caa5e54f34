"""The severities of a finding, and the sizes from which each one applies."""

import dataclasses
import math
import operator
from typing import Literal

Severity = Literal["high", "medium", "low", "none", "unknown"]

SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low", "none", "unknown")
"""high: spoils the training or its evaluation; medium: costs some of it; low: good to know; none: looked for and not
found; unknown: the diagnostic cannot tell."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grades:
    """The sizes from which a finding is of each severity; a severity without a size is never given.

    Attributes:
      high: smallest size of severity "high".
      medium: smallest size of severity "medium".
      low: smallest size of severity "low"; anything smaller is "none".
      exclusive: whether a size has to exceed its threshold; by default it is enough to reach it.
    """

    high: float = math.inf
    medium: float = math.inf
    low: float = math.inf
    exclusive: bool = False

    def grade(self, size: float, unit: float = 1.0) -> Severity:
        """Returns the severity of a size.

        Args:
          size: what was measured.
          unit: factor on all thresholds, such as the standard deviation that they are counted in.
        """
        reaches = operator.gt if self.exclusive else operator.ge
        for severity in ("high", "medium", "low"):
            if reaches(size, getattr(self, severity) * unit):
                return severity
        return "none"


def worst(*severities: Severity) -> Severity:
    """Returns the most severe; "unknown" counts least."""
    return min(severities, key=SEVERITIES.index)


def cap(severity: Severity, limit: Severity) -> Severity:
    """Returns the severity, or the limit if that is less severe."""
    return max(severity, limit, key=SEVERITIES.index)

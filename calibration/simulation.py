"""What a simulation is: a claim, data for which the truth is known, and how often the claim held."""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Literal

import numpy as np

from diagnostics.statistics import Interval, wilson_interval

Kind = Literal["coverage", "false alarms", "found"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulation:
    """A claim that is checked by drawing data for which the truth is known.

    Attributes:
      claim: what is reported, such as "95 % interval of an accuracy over groups".
      setting: the data that are drawn.
      kind: what a draw counts: "coverage" of the truth, "false alarms" without a cause, or planted faults "found".
      draw: makes one draw from the generator; returns whether it counts, or None if nothing was claimed.
      nominal: the share that the claim states; nan if it states none, as for faults found.
      promised: the share that the project promises: at least that for "coverage" and "found", at most for "false
        alarms". It differs from `nominal` where a method is known to be approximate.
      draws: number of draws in the documentation.
      quick: number of draws in the test suite.
      strength: of the planted fault, for "found"; nan otherwise.
    """

    claim: str
    setting: str
    kind: Kind
    draw: Callable[[np.random.Generator], bool | None]
    nominal: float = float("nan")
    promised: float
    draws: int = 1000
    quick: int = 50
    strength: float = float("nan")

    @property
    def key(self) -> str:
        """The name under which the result is stored."""
        strength = "" if np.isnan(self.strength) else f" | {self.strength:g}"
        return f"{self.kind} | {self.claim} | {self.setting}{strength}"

    def run(self, draws: int) -> "Outcome":
        """Makes some draws. Each has a seed of its own, so fewer draws are the first of more."""
        seed = zlib.crc32(self.key.encode())
        answers = [self.draw(np.random.default_rng([seed, number])) for number in range(draws)]
        given = [answer for answer in answers if answer is not None]
        return Outcome(count=int(sum(map(bool, given))), claimed=len(given), draws=draws)

    def keeps(self, outcome: "Outcome") -> bool:
        """Whether the promise is within the 99.9 % interval of the share."""
        _, low, high = outcome.interval(0.999)
        return bool(low <= self.promised if self.kind == "false alarms" else high >= self.promised)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a simulation.

    Attributes:
      count: draws that counted.
      claimed: draws in which something was claimed.
      draws: all draws.
    """

    count: int
    claimed: int
    draws: int

    def interval(self, confidence: float = 0.95) -> Interval:
        """Returns the share of claims that counted, with its interval; nan if nothing was claimed."""
        return wilson_interval(self.count, self.claimed, confidence)

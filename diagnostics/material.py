"""What diagnostics read."""

import dataclasses
from typing import Literal

import ml_collections

from data.pool import Pool
from diagnostics.examples import Examples
from diagnostics.quality.reference import Reference
from diagnostics.trainings import Trainings

Part = Literal["reference", "pool", "trainings", "run"]
"""A part of the material that may be absent; see the attributes of `Material`."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What diagnostics read. Config and examples are always there, the other parts may be absent.

    Attributes:
      config: the whole config.
      examples: all examples of the set.
      reference: a set to compare the examples with, or None.
      pool: the set as the trainings read it, or None where nothing was trained.
      trainings: results of the trainings that `diagnostics.trainings.plan` lists, or None where nothing was trained.
      wanted: accuracy, or for a regression mean squared error, for which the number of examples is asked; or None.
      run: directory of a finished run, or "".
    """

    config: ml_collections.ConfigDict
    examples: Examples
    reference: Reference | None = None
    pool: Pool | None = None
    trainings: Trainings | None = None
    wanted: float | None = None
    run: str = ""

    def has(self, part: Part) -> bool:
        """Whether a part is there."""
        value = getattr(self, part)
        return value is not None and not (isinstance(value, str) and not value)

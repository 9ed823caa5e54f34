"""Durations as text with a unit, turned into steps."""

import dataclasses
import math
import re

from plumbline import UserError

_TEXT = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?)\s+(step|epoch|example|percent|second|minute|hour)s?")
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clock:
    """Turns durations into steps.

    Attributes:
      num_examples: examples in an epoch.
      batch_size: examples in a step, over all devices.
      total_steps: steps of the whole training; None until it is known.
    """

    num_examples: int
    batch_size: int
    total_steps: int | None = None

    def steps(self, text: str, field: str) -> int:
        """The number of steps of a duration, rounded up.

        Args:
          text: such as "40 epochs", "500 steps", "100000 examples" or "5 percent" (of the training).
          field: the config field of the text, for the error.

        Raises:
          UserError: `text` is not a duration, or is one without a number of steps.
        """
        amount, unit = _parse(text, field)
        if unit == "percent" and self.total_steps is not None:
            return _ceil(amount / 100 * self.total_steps)
        per_unit = {"step": 1.0, "epoch": self.num_examples / self.batch_size, "example": 1 / self.batch_size}
        if unit not in per_unit:
            raise UserError(f"{field}: '{text}' cannot be counted in steps; write it in steps, epochs or examples")
        return _ceil(amount * per_unit[unit])

    def every(self, text: str, field: str, *, wall_time: bool = False) -> "Every":
        """The interval of something that is repeated; "" means never.

        Args:
          text: a duration.
          field: the config field of the text, for the error.
          wall_time: whether `text` may also be a time, such as "10 minutes".

        Raises:
          UserError: `text` is not such a duration, or is 0.
        """
        if not text.strip():
            return Every()
        amount, unit = _parse(text, field)
        if amount == 0:
            raise UserError(f"{field}: '{text}' is not an interval; give more than 0, or '' for never")
        if wall_time and unit in _SECONDS:
            return Every(seconds=amount * _SECONDS[unit])
        return Every(steps=max(1, self.steps(text, field)))


@dataclasses.dataclass(frozen=True)
class Every:
    """An interval in steps or in seconds of wall time; neither means never."""

    steps: int | None = None
    seconds: float | None = None

    def at(self, step: int) -> bool:
        """Whether an interval in steps ends at `step`."""
        return self.steps is not None and step % self.steps == 0

    def next_after(self, step: int, last: int) -> int:
        """The first step after `step` at which an interval in steps ends, at most `last`."""
        return last if self.steps is None else min(last, (step // self.steps + 1) * self.steps)

    def last_until(self, step: int) -> int:
        """The last step up to and including `step` at which an interval in steps ends; 0 before the first."""
        return 0 if self.steps is None else step // self.steps * self.steps


def _parse(text: str, field: str) -> tuple[float, str]:
    match = _TEXT.fullmatch(text.strip())
    if not match:
        raise UserError(
            f"{field}: '{text}' is not a duration; write a number and a unit, such as '40 epochs', '500 steps', "
            "'100000 examples', '5 percent' or '10 minutes'"
        )
    return float(match[1]), match[2]


def _ceil(value: float) -> int:
    # A product such as 40 * (1285 / 64) may be a rounding error above a whole number.
    return math.ceil(value - 1e-9 * max(1.0, value))

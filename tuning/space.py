"""The search space: its dimensions, the points that can be drawn from it, and its grid."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from plumbline import UserError
from trainers.settings import fields

# A step may miss the end of its range by this rounding error.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dimension:
    """One dimension of the space.

    Attributes:
      path: of the config field.
      choices: its values, typed as the field; () for a range.
      low, high: inclusive ends of a range; None for choices.
      log: whether the range is logarithmic.
      step: distance between values, or on a logarithmic range the factor between points of a grid; None if there is
        none.
      when: path -> values, one of which the field must have for this dimension to be active.
      integer: whether the range is over integers.
    """

    path: str
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    when: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    integer: bool = False

    @property
    def distribution(self) -> BaseDistribution:
        """The distribution for Optuna. Choices that storages cannot hold, such as tuples, are JSON texts in it."""
        if self.choices:
            return CategoricalDistribution([choice_label(choice) for choice in self.choices])
        if self.integer:
            return IntDistribution(self.low, self.high, log=self.log, step=1 if self.log else self.step or 1)
        return FloatDistribution(self.low, self.high, log=self.log, step=None if self.log else self.step)

    def points(self) -> list[Any]:
        """Returns the values in a grid, typed as the field.

        Raises:
          UserError: the dimension is a range without a step.
        """
        if self.choices:
            return list(self.choices)
        if self.step is None:
            if self.integer and not self.log:
                return list(range(self.low, self.high + 1))
            raise UserError(
                f"sweep(): '{self.path}' is a range without a step, which has no grid; give it a 'step' or choices, or "
                "take another --sampler"
            )
        if self.log:
            count = 1 + math.floor(math.log(self.high / self.low, self.step) + _ROUNDING)
            values = [self.low * self.step**index for index in range(count)]
        else:
            count = 1 + math.floor((self.high - self.low) / self.step + _ROUNDING)
            values = [self.low + self.step * index for index in range(count)]
        if self.integer:
            return list(dict.fromkeys(min(self.high, round(value)) for value in values))
        # Rounds 0.1 + 2 * 0.1 to 0.3.
        return [min(self.high, float(f"{value:.12g}")) for value in values]

    def value(self, drawn: Any) -> Any:
        """Returns the value of the field for a value of Optuna."""
        if not self.choices:
            return drawn
        return self.choices[[choice_label(choice) for choice in self.choices].index(drawn)]


class Space:
    """A checked search space.

    Attributes:
      dimensions: each comes after those that it depends on.
    """

    def __init__(self, dimensions: Sequence[Dimension], config: ml_collections.ConfigDict):
        """Takes checked dimensions; see `space_parsing.parse`."""
        self.dimensions = tuple(dimensions)
        known = fields(config)
        self._fields = {path: known[path] for dimension in dimensions for path in dimension.when}

    @property
    def fingerprint(self) -> str:
        """The space as JSON, which is the same for equal spaces."""
        dimensions = {dimension.path: dataclasses.asdict(dimension) for dimension in self.dimensions}
        return json.dumps(dimensions, sort_keys=True, default=list)

    def suggest(self, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
        """Draws a point, dimension by dimension.

        Returns:
          Overrides: config path -> value, of the active dimensions.
        """
        overrides: dict[str, Any] = {}
        for dimension in self.dimensions:
            if self._is_active(dimension, overrides):
                overrides[dimension.path] = dimension.value(_draw(trial, dimension.path, dimension.distribution))
        return overrides

    def overrides(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the overrides for the values that Optuna holds for a trial."""
        return {each.path: each.value(drawn[each.path]) for each in self.dimensions if each.path in drawn}

    def drawn(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the values that Optuna holds for overrides: the inverse of `overrides`."""
        categorical = {dimension.path for dimension in self.dimensions if dimension.choices}
        return {path: choice_label(value) if path in categorical else value for path, value in overrides.items()}

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yields every point once, as overrides.

        Without conditions, the order is that of scikit-learn's `ParameterGrid`.

        Raises:
          UserError: a dimension is a range without a step.
        """
        return self._combinations([(dimension, dimension.points()) for dimension in self.dimensions], {})

    def grid_size(self) -> int:
        """Returns the number of points of the grid, without listing combinations of independent dimensions.

        Raises:
          UserError: a dimension is a range without a step.
        """
        conditions = {path for dimension in self.dimensions for path in dimension.when}
        free = [each for each in self.dimensions if not each.when and each.path not in conditions]
        bound = [(each, each.points()) for each in self.dimensions if each not in free]
        return math.prod(len(each.points()) for each in free) * sum(1 for _ in self._combinations(bound, {}))

    def can_be_active(self, dimension: Dimension) -> bool:
        """Whether a dimension is active at some point."""
        needed, waiting = {dimension.path}, [dimension]
        known = {each.path: each for each in self.dimensions}
        while waiting:
            parents = [known[path] for path in waiting.pop().when if path in known and path not in needed]
            needed |= {each.path for each in parents}
            waiting += parents
        # Dimensions that others depend on have choices.
        before = [(each, each.choices) for each in self.dimensions if each.path in needed - {dimension.path}]
        return any(self._is_active(dimension, point) for point in self._combinations(before, {}))

    def _combinations(
        self, left: Sequence[tuple[Dimension, Sequence[Any]]], overrides: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        if not left:
            yield overrides
            return
        (dimension, points), *rest = left
        if not self._is_active(dimension, overrides):
            yield from self._combinations(rest, overrides)
            return
        for value in points:
            yield from self._combinations(rest, {**overrides, dimension.path: value})

    def _is_active(self, dimension: Dimension, overrides: Mapping[str, Any]) -> bool:
        # A condition on a dimension that is itself inactive does not hold.
        searched = {each.path for each in self.dimensions}
        return all(
            overrides[path] in values
            if path in searched and path in overrides
            else path not in searched and self._fields[path] in values
            for path, values in dimension.when.items()
        )


def choice_label(value: Any) -> Any:
    """Returns a choice as storages hold it: as it is, or as JSON if it is not a number or a text."""
    return value if isinstance(value, (bool, int, float, str)) else json.dumps(value, default=list)


def _draw(trial: optuna.trial.BaseTrial, path: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(path, distribution.choices)
    draw = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return draw(path, distribution.low, distribution.high, log=distribution.log, step=distribution.step)

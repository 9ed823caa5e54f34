"""The space of a search: what a config's `sweep()` says, checked against the config.

A dict from config path to a list of choices, or to `{"low", "high"}` with `"log"` and `"step"` if wanted. On a linear
range `step` is the distance between values. On a logarithmic one it is the factor between points of a grid; samplers
that draw take the whole range. With `"when": {path: value or list of values}` an entry is there only where all those
fields have one of those values; a list of choices is then written `{"choices": [...], "when": {...}}`.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from plumbline import UserError, nearest, unknown_name
from trainers.populations.members import check_shared
from trainers.settings import fields, override

_KEYS = ("choices", "low", "high", "log", "step", "when")
_RANGE_KEYS = ("low", "high", "log", "step")
# A step may miss the end of its range by a rounding error.
_ROUNDING = 1e-9
# Fields of a section in a message.
_SHOWN = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One dimension of the space.

    Attributes:
      path: of the config field.
      choices: its values, typed as the field; () for a range.
      low, high: ends of a range, both inside; None for choices.
      log: whether the range is logarithmic.
      step: None if there is none.
      when: path -> values, of which the field must have one for this entry to be there.
      integer: whether the range is of whole numbers.
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
        """What Optuna draws from. Choices that storages cannot hold, such as tuples, stand there as text."""
        if self.choices:
            return CategoricalDistribution([_label(choice) for choice in self.choices])
        if self.integer:
            return IntDistribution(self.low, self.high, log=self.log, step=1 if self.log else self.step or 1)
        return FloatDistribution(self.low, self.high, log=self.log, step=None if self.log else self.step)

    def points(self) -> list[Any]:
        """Its values in a grid, typed as the field.

        Raises:
          UserError: a range without a step.
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
        # Such as 0.1 + 2 * 0.1, which no one would write so.
        return [min(self.high, float(f"{value:.12g}")) for value in values]

    def value(self, drawn: Any) -> Any:
        """The field's value for what Optuna drew."""
        return self.choices[[_label(choice) for choice in self.choices].index(drawn)] if self.choices else drawn


class Space:
    """A checked space; entries stand in an order in which conditions come after what they ask for."""

    def __init__(self, entries: Sequence[Entry], config: ml_collections.ConfigDict):
        """Takes checked entries; see `parse`."""
        self.entries = tuple(entries)
        known = fields(config)
        self._fields = {path: known[path] for entry in entries for path in entry.when}

    @property
    def fingerprint(self) -> str:
        """The space as JSON, the same for equal spaces however they are written."""
        entries = {entry.path: dataclasses.asdict(entry) for entry in self.entries}
        return json.dumps(entries, sort_keys=True, default=list)

    def suggest(self, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
        """Draws a point, entry by entry.

        Returns:
          Overrides: config path -> value, of the entries that are there.
        """
        overrides: dict[str, Any] = {}
        for entry in self.entries:
            if self._is_there(entry, overrides):
                overrides[entry.path] = entry.value(_draw(trial, entry.path, entry.distribution))
        return overrides

    def overrides(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The overrides for what Optuna keeps of a trial; entries that it has not drawn are left out."""
        return {entry.path: entry.value(drawn[entry.path]) for entry in self.entries if entry.path in drawn}

    def drawn(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """What Optuna keeps of overrides: the inverse of `overrides`."""
        chosen = {entry.path for entry in self.entries if entry.choices}
        return {path: _label(value) if path in chosen else value for path, value in overrides.items()}

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every point once, as overrides; the order is scikit-learn's `ParameterGrid`'s where nothing is conditional.

        Raises:
          UserError: a range without a step.
        """
        return self._combinations([(entry, entry.points()) for entry in self.entries], {})

    def grid_size(self) -> int:
        """Points of the grid; those of entries that nothing hangs on are multiplied, not counted one by one.

        Raises:
          UserError: a range without a step.
        """
        asked = {path for entry in self.entries for path in entry.when}
        free = [entry for entry in self.entries if not entry.when and entry.path not in asked]
        bound = [(entry, entry.points()) for entry in self.entries if entry not in free]
        return math.prod(len(entry.points()) for entry in free) * sum(1 for _ in self._combinations(bound, {}))

    def can_be_there(self, entry: Entry) -> bool:
        """Whether some point has this entry."""
        needed, waiting = {entry.path}, [entry]
        known = {each.path: each for each in self.entries}
        while waiting:
            asked = [known[path] for path in waiting.pop().when if path in known and path not in needed]
            needed |= {each.path for each in asked}
            waiting += asked
        # Of its own values one will do; the others' are choices.
        before = [(each, each.choices) for each in self.entries if each.path in needed - {entry.path}]
        return any(self._is_there(entry, point) for point in self._combinations(before, {}))

    def _combinations(
        self, left: Sequence[tuple[Entry, Sequence[Any]]], overrides: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        if not left:
            yield overrides
            return
        (entry, points), *rest = left
        if not self._is_there(entry, overrides):
            yield from self._combinations(rest, overrides)
            return
        for value in points:
            yield from self._combinations(rest, {**overrides, entry.path: value})

    def _is_there(self, entry: Entry, overrides: Mapping[str, Any]) -> bool:
        # A condition on an entry that is itself not there does not hold.
        searched = {each.path for each in self.entries}
        return all(
            overrides[path] in values
            if path in searched and path in overrides
            else path not in searched and self._fields[path] in values
            for path, values in entry.when.items()
        )


def parse(sweep: Any, config: ml_collections.ConfigDict) -> Space:
    """Checks what a config's `sweep()` gives.

    Args:
      sweep: a dict as this module's documentation says.
      config: the resolved config that trials override.

    Raises:
      UserError: it is empty, names an unknown field, or has a value that its field cannot take.
    """
    if not isinstance(sweep, Mapping):
        raise UserError(f"sweep(): it returns {type(sweep).__name__}; let it return a dict from config path to choices")
    if not sweep:
        raise UserError("sweep(): the space is empty; name at least one field with its choices or range")
    entries = {path: _entry(path, given, config) for path, given in sorted(sweep.items())}
    for entry in entries.values():
        _check_conditions(entry, entries)
    space = Space(_ordered(entries), config)
    for entry in space.entries:
        if not space.can_be_there(entry):
            when = " and ".join(f"'{p}' is {' or '.join(map(repr, values))}" for p, values in entry.when.items())
            raise UserError(f"sweep(): '{entry.path}' is there when {when}, which never holds; mend its 'when'")
    return space


def _entry(path: str, given: Any, config: ml_collections.ConfigDict) -> Entry:
    field = _field(path, config)
    _check_may_differ(path)
    if isinstance(given, (list, tuple)):
        given = {"choices": given}
    if not isinstance(given, Mapping):
        raise UserError(f"sweep(): '{path}' is {given!r}; give a list of choices or {{'low': ..., 'high': ...}}")
    if unknown := [key for key in given if key not in _KEYS]:
        raise unknown_name(f"sweep(): '{path}'", unknown[0], _KEYS)
    if not isinstance(given.get("when", {}), Mapping):
        raise UserError(f"sweep(): '{path}' has 'when': {given['when']!r}; give a dict from config path to values")
    when = {asked: _condition(path, asked, values, config) for asked, values in given.get("when", {}).items()}
    if "choices" in given:
        if mixed := [key for key in _RANGE_KEYS if key in given]:
            raise UserError(f"sweep(): '{path}' has both choices and '{mixed[0]}'; give one or the other")
        choices = tuple(_typed(path, choice, config) for choice in given["choices"])
        if not choices:
            raise UserError(f"sweep(): '{path}' has no choices; give at least one")
        if len(set(map(_label, choices))) < len(choices):
            raise UserError(f"sweep(): '{path}' has the same choice twice; leave one out")
        return Entry(path=path, choices=choices, when=when)
    if isinstance(field, bool) or not isinstance(field, (int, float)):
        raise UserError(f"sweep(): '{path}' is a range, but the field holds {field!r}; give a list of choices")
    return _range(path, given, when, isinstance(field, int), config)


def _check_may_differ(path: str) -> None:
    try:
        check_shared({path: None})
    except UserError as error:
        raise UserError(f"sweep(): {error}") from None


def _range(
    path: str, given: Mapping[str, Any], when: Mapping, integer: bool, config: ml_collections.ConfigDict
) -> Entry:
    for key in ("low", "high"):
        if key not in given:
            raise UserError(f"sweep(): '{path}' has no '{key}'; a range has 'low' and 'high'")
    low, high = (_typed(path, given[key], config) for key in ("low", "high"))
    log, step = given.get("log", False), given.get("step")
    if not all(math.isfinite(end) for end in (low, high)):
        raise UserError(f"sweep(): '{path}' goes from {low} to {high}; both have to be finite")
    if low >= high:
        raise UserError(f"sweep(): '{path}' goes from {low} to {high}; 'low' has to be below 'high'")
    if not isinstance(log, bool):
        raise UserError(f"sweep(): '{path}' has 'log': {log!r}; give True or False")
    if log and low <= 0:
        raise UserError(f"sweep(): '{path}' is logarithmic from {low}; give a 'low' above 0, or choices")
    if step is not None:
        _check_step(path, step, log, integer)
    return Entry(path=path, low=low, high=high, log=log, step=step, when=when, integer=integer)


def _check_step(path: str, step: Any, log: bool, integer: bool) -> None:
    if isinstance(step, bool) or not isinstance(step, (int, float)) or not math.isfinite(step):
        raise UserError(f"sweep(): '{path}' has the step {step!r}; give a number")
    if log and step <= 1:
        raise UserError(f"sweep(): '{path}' has the step {step}; on a logarithmic range it is a factor above 1")
    if not log and step <= 0:
        raise UserError(f"sweep(): '{path}' has the step {step}; it has to be above 0")
    if integer and not log and step != int(step):
        raise UserError(f"sweep(): '{path}' has the step {step}, but the field holds whole numbers; give a whole one")


def _condition(path: str, asked: str, values: Any, config: ml_collections.ConfigDict) -> tuple[Any, ...]:
    _field(asked, config)
    values = tuple(_typed(asked, value, config) for value in (values if isinstance(values, list) else [values]))
    if not values:
        raise UserError(f"sweep(): '{path}' asks for none of the values of '{asked}'; give at least one, or no 'when'")
    return values


def _check_conditions(entry: Entry, entries: Mapping[str, Entry]) -> None:
    for asked, values in entry.when.items():
        if (other := entries.get(asked)) is None:
            continue
        if not other.choices:
            raise UserError(f"sweep(): '{entry.path}' depends on '{asked}', which is a range; only choices can decide")
        if not set(map(_label, values)) & set(map(_label, other.choices)):
            raise UserError(
                f"sweep(): '{entry.path}' is there when '{asked}' is {' or '.join(map(repr, values))}, none of "
                "its choices; mend one of them"
            )


def _ordered(entries: Mapping[str, Entry]) -> list[Entry]:
    """By name, but for those that have to come after what they depend on."""
    left, ordered = dict(sorted(entries.items())), []
    while left:
        ready = next((e for e in left.values() if not any(asked in left for asked in e.when)), None)
        if ready is None:
            raise UserError(f"sweep(): {', '.join(map(repr, left))} depend on each other in a circle; break it")
        ordered.append(left.pop(ready.path))
    return ordered


def _field(path: str, config: ml_collections.ConfigDict) -> Any:
    """The field's value.

    Raises:
      UserError: there is no such field, or all trainings of a search have to have the same.
    """
    known = fields(config)
    if path in known:
        return known[path]
    if inside := [name for name in known if name.startswith(f"{path}.")]:
        shown = ", ".join(f"'{name}'" for name in inside[:_SHOWN]) + (", ..." if len(inside) > _SHOWN else "")
        raise UserError(f"sweep(): '{path}' is a section; name fields of it, such as {shown}")
    # First among those of the same section, then by the name alone.
    section, _, last = str(path).rpartition(".")
    beside = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == section}
    anywhere = {name.rpartition(".")[2]: name for name in known}
    near = beside.get(nearest(last, beside)) or anywhere.get(nearest(last, anywhere))
    hint = f"did you mean '{near}'?" if near else "the fields are in configs/defaults.py"
    raise UserError(f"sweep(): unknown field '{path}'; {hint}")


def _typed(path: str, value: Any, config: ml_collections.ConfigDict) -> Any:
    try:
        return fields(override(config, {path: value}))[path]
    except UserError as error:
        raise UserError(f"sweep(): {error}") from None


def _label(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else json.dumps(value, default=list)


def _draw(trial: optuna.trial.BaseTrial, path: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(path, distribution.choices)
    draw = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return draw(path, distribution.low, distribution.high, log=distribution.log, step=distribution.step)

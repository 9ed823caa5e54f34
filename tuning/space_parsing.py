"""Parses the search space that `sweep()` of a config file returns.

The space is a dict from config path to a list of choices, or to a range `{"low": ..., "high": ...}` with optional
`"log"` and `"step"`. On a linear range, `step` is the distance between values. On a logarithmic range, it is the factor
between points of a grid; samplers use the whole range. With `"when": {path: value or list of values}`, a dimension is
active only if each of those fields has one of those values; a list of choices is then written
`{"choices": [...], "when": {...}}`.
"""

import math
from collections.abc import Mapping
from typing import Any

import ml_collections

from plumbline import UserError, nearest, unknown_name
from trainers.populations.members import check_shared
from trainers.settings import fields, override
from tuning.space import Dimension, Space, choice_label

_KEYS = ("choices", "low", "high", "log", "step", "when")
_RANGE_KEYS = ("low", "high", "log", "step")
# Fields of a section that a message names.
_SHOWN = 4


def parse(sweep: Any, config: ml_collections.ConfigDict) -> Space:
    """Parses and checks a space.

    Args:
      sweep: the dict that `sweep()` returns.
      config: the resolved config that trials override.

    Raises:
      UserError: the space is empty, names an unknown field, or has a value that its field cannot take.
    """
    if not isinstance(sweep, Mapping):
        raise UserError(f"sweep(): it returns {type(sweep).__name__}; let it return a dict from config path to choices")
    if not sweep:
        raise UserError("sweep(): the space is empty; name at least one field with its choices or range")
    dimensions = {path: _parse_dimension(path, given, config) for path, given in sorted(sweep.items())}
    for dimension in dimensions.values():
        _check_conditions(dimension, dimensions)
    space = Space(_sort(dimensions), config)
    for dimension in space.dimensions:
        if not space.can_be_active(dimension):
            when = " and ".join(f"'{p}' is {' or '.join(map(repr, values))}" for p, values in dimension.when.items())
            raise UserError(f"sweep(): '{dimension.path}' is active when {when}, which never holds; fix its 'when'")
    return space


def _parse_dimension(path: str, given: Any, config: ml_collections.ConfigDict) -> Dimension:
    field = _find_field(path, config)
    try:
        check_shared({path: None})
    except UserError as error:
        raise UserError(f"sweep(): {error}") from None
    if isinstance(given, (list, tuple)):
        given = {"choices": given}
    if not isinstance(given, Mapping):
        raise UserError(f"sweep(): '{path}' is {given!r}; give a list of choices or {{'low': ..., 'high': ...}}")
    if unknown := [key for key in given if key not in _KEYS]:
        raise unknown_name(f"sweep(): '{path}'", unknown[0], _KEYS)
    if not isinstance(given.get("when", {}), Mapping):
        raise UserError(f"sweep(): '{path}' has 'when': {given['when']!r}; give a dict from config path to values")
    when = {other: _parse_condition(path, other, values, config) for other, values in given.get("when", {}).items()}
    if "choices" in given:
        return Dimension(path=path, choices=_parse_choices(path, given, config), when=when)
    if isinstance(field, bool) or not isinstance(field, (int, float)):
        raise UserError(f"sweep(): '{path}' is a range, but the field holds {field!r}; give a list of choices")
    return _parse_range(path, given, when, isinstance(field, int), config)


def _parse_choices(path: str, given: Mapping[str, Any], config: ml_collections.ConfigDict) -> tuple[Any, ...]:
    if mixed := [key for key in _RANGE_KEYS if key in given]:
        raise UserError(f"sweep(): '{path}' has both choices and '{mixed[0]}'; give one or the other")
    choices = tuple(_convert(path, choice, config) for choice in given["choices"])
    if not choices:
        raise UserError(f"sweep(): '{path}' has no choices; give at least one")
    if len(set(map(choice_label, choices))) < len(choices):
        raise UserError(f"sweep(): '{path}' has the same choice twice; leave one out")
    return choices


def _parse_range(
    path: str, given: Mapping[str, Any], when: Mapping, integer: bool, config: ml_collections.ConfigDict
) -> Dimension:
    for key in ("low", "high"):
        if key not in given:
            raise UserError(f"sweep(): '{path}' has no '{key}'; a range has 'low' and 'high'")
    low, high = (_convert(path, given[key], config) for key in ("low", "high"))
    log, step = given.get("log", False), given.get("step")
    if not all(math.isfinite(end) for end in (low, high)):
        raise UserError(f"sweep(): '{path}' goes from {low} to {high}; both must be finite")
    if low >= high:
        raise UserError(f"sweep(): '{path}' goes from {low} to {high}; 'low' must be less than 'high'")
    if not isinstance(log, bool):
        raise UserError(f"sweep(): '{path}' has 'log': {log!r}; give True or False")
    if log and low <= 0:
        raise UserError(f"sweep(): '{path}' is logarithmic from {low}; give a 'low' above 0, or choices")
    if step is not None:
        _check_step(path, step, log, integer)
    return Dimension(path=path, low=low, high=high, log=log, step=step, when=when, integer=integer)


def _check_step(path: str, step: Any, log: bool, integer: bool) -> None:
    if isinstance(step, bool) or not isinstance(step, (int, float)) or not math.isfinite(step):
        raise UserError(f"sweep(): '{path}' has the step {step!r}; give a number")
    if log and step <= 1:
        raise UserError(f"sweep(): '{path}' has the step {step}; on a logarithmic range it is a factor above 1")
    if not log and step <= 0:
        raise UserError(f"sweep(): '{path}' has the step {step}; it must be positive")
    if integer and not log and step != int(step):
        raise UserError(f"sweep(): '{path}' has the step {step}, but the field holds integers; give an integer")


def _parse_condition(path: str, other: str, values: Any, config: ml_collections.ConfigDict) -> tuple[Any, ...]:
    _find_field(other, config)
    values = tuple(_convert(other, value, config) for value in (values if isinstance(values, list) else [values]))
    if not values:
        raise UserError(f"sweep(): '{path}' depends on no value of '{other}'; give at least one, or no 'when'")
    return values


def _check_conditions(dimension: Dimension, dimensions: Mapping[str, Dimension]) -> None:
    for path, values in dimension.when.items():
        if (other := dimensions.get(path)) is None:
            continue
        if not other.choices:
            raise UserError(f"sweep(): '{dimension.path}' depends on '{path}', which is a range; give '{path}' choices")
        if not set(map(choice_label, values)) & set(map(choice_label, other.choices)):
            raise UserError(
                f"sweep(): '{dimension.path}' is active when '{path}' is {' or '.join(map(repr, values))}, none of "
                "its choices; fix one of them"
            )


def _sort(dimensions: Mapping[str, Dimension]) -> list[Dimension]:
    """Sorts by name, with each dimension after those that it depends on."""
    left, ordered = dict(sorted(dimensions.items())), []
    while left:
        ready = next((each for each in left.values() if not any(path in left for path in each.when)), None)
        if ready is None:
            raise UserError(f"sweep(): {', '.join(map(repr, left))} depend on each other in a cycle; break it")
        ordered.append(left.pop(ready.path))
    return ordered


def _find_field(path: str, config: ml_collections.ConfigDict) -> Any:
    """Returns the value of a field.

    Raises:
      UserError: there is no such field.
    """
    known = fields(config)
    if path in known:
        return known[path]
    if inside := [name for name in known if name.startswith(f"{path}.")]:
        shown = ", ".join(f"'{name}'" for name in inside[:_SHOWN]) + (", ..." if len(inside) > _SHOWN else "")
        raise UserError(f"sweep(): '{path}' is a section; name fields of it, such as {shown}")
    # A similar name in the same section comes before one in another section.
    section, _, last = str(path).rpartition(".")
    siblings = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == section}
    anywhere = {name.rpartition(".")[2]: name for name in known}
    near = siblings.get(nearest(last, siblings)) or anywhere.get(nearest(last, anywhere))
    hint = f"did you mean '{near}'?" if near else "the fields are in configs/defaults.py"
    raise UserError(f"sweep(): unknown field '{path}'; {hint}")


def _convert(path: str, value: Any, config: ml_collections.ConfigDict) -> Any:
    """Returns a value with the type of its field."""
    try:
        return fields(override(config, {path: value}))[path]
    except UserError as error:
        raise UserError(f"sweep(): {error}") from None

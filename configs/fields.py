"""How a config field is described: its default, what a value of it changes, and which values are possible.

`configs/defaults.py` gives each field with one of these, by what a value of it changes:

`hyperparameter`: a float32 scalar in the train state. Trainings that differ in it share a compiled program.
`traced`: data of a compiled program in another form, as the steps of a schedule are.
`constant`: part of a compiled program. Trainings that differ in it are compiled one by one.
`shared`: the same for all trainings of a population, such as the source of the data and the devices.
`operational`: how a run works and reports, not what it computes.

Everything else that reads fields (checks, populations, resuming, transfer) reads them from here.
"""

import dataclasses
import enum
from collections.abc import Callable, Iterator
from typing import Any

import ml_collections


class Role(enum.Enum):
    """What a value of a field changes."""

    HYPERPARAMETER = "hyperparameter"
    TRACED = "traced"
    CONSTANT = "constant"
    SHARED = "shared"
    OPERATIONAL = "operational"


@dataclasses.dataclass(frozen=True)
class Check:
    """Which values are possible.

    Attributes:
      holds: whether a value is possible.
      wanted: the possible values in words, after "it must be".
      choices: the possible values themselves, where they can be listed.
    """

    holds: Callable[[Any], bool]
    wanted: str
    choices: tuple[str, ...] = ()


SHARE = Check(lambda value: 0 <= value < 1, "at least 0 and less than 1")
SHARE_OR_ONE = Check(lambda value: 0 <= value <= 1, "at least 0 and at most 1")
NOT_NEGATIVE = Check(lambda value: value >= 0, "at least 0")
POSITIVE = Check(lambda value: value > 0, "more than 0")
AT_LEAST_ONE = Check(lambda value: value >= 1, "at least 1")
UINT32 = Check(lambda value: 0 <= value < 2**32, "at least 0 and less than 2**32")


def one_of(*choices: str) -> Check:
    """The check that a value is one of `choices`."""
    return Check(lambda value: value in choices, f"one of {', '.join(choices)}", choices)


class Pretrained(enum.Enum):
    """Whether the weights that a run starts from (`transfer.source`) set a field."""

    REPLACES = "replaces"
    """They replace the value of the config."""
    IF_UNSET = "if unset"
    """They set the field where the config leaves it 0 or empty."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """The description of a field.

    Attributes:
      default: its value unless a config changes it; a config keeps its type.
      role: what a value of it changes.
      check: which values are possible; None leaves that to the code that reads the field.
      may_change: a run that is resumed may have another value.
      program: what of a value a compiled program contains; None: nothing.
      instead: what to do instead of setting it for one training of a population; "" where that is possible.
      runs_only: what to do about it in a population, which must leave it at its default; "" where it may be set.
      random: values other than 0 and False make the inputs or features of an example differ from step to step.
      images: it is for images only, and must be 0 or False for other data.
      defines_test: values that differ make test metrics incomparable.
      pretrained: whether the weights that a run starts from set it; None: not by a rule of its own.
    """

    default: Any
    role: Role
    check: Check | None = None
    may_change: bool = False
    program: Callable[[Any], Any] | None = None
    instead: str = ""
    runs_only: str = ""
    random: bool = False
    images: bool = False
    defines_test: bool = False
    pretrained: Pretrained | None = None


def hyperparameter(default: float, check: Check, *, adds_state: bool = False, **facts: Any) -> Field:
    """A float32 scalar of the train state, named as the last part of the field's path.

    Args:
      default: its value unless a config changes it.
      check: which values are possible.
      adds_state: the train state has more arrays where it is not 0, which takes another program.
      **facts: other attributes of `Field`.
    """
    program = _is_not_zero if adds_state else None
    return Field(default=default, role=Role.HYPERPARAMETER, check=check, program=program, **facts)


def traced(
    default: Any, check: Check | None = None, *, program: Callable[[Any], Any] | None = None, **facts: Any
) -> Field:
    """Data of a compiled program, all but what `program` gives of it; other arguments as those of `Field`."""
    return Field(default=default, role=Role.TRACED, check=check, program=program, **facts)


def constant(default: Any, check: Check | None = None, **facts: Any) -> Field:
    """A part of a compiled program; arguments as those of `Field`."""
    return Field(default=default, role=Role.CONSTANT, check=check, program=_unchanged, **facts)


def shared(default: Any, check: Check | None = None, **facts: Any) -> Field:
    """The same for all trainings of a population; arguments as those of `Field`."""
    hint = "train a separate run for each value"
    program = None if facts.get("may_change") else _unchanged
    return Field(default=default, role=Role.SHARED, check=check, program=program, instead=hint, **facts)


def operational(default: Any, check: Check | None = None, **facts: Any) -> Field:
    """How a run works and reports; a run that is resumed may change it. Arguments as those of `Field`."""
    return Field(default=default, role=Role.OPERATIONAL, check=check, may_change=True, **facts)


def flatten(described: ml_collections.ConfigDict, prefix: str = "") -> dict[str, Field]:
    """The descriptions by path, in alphabetical order.

    Raises:
      TypeError: a field has a value but no description.
    """
    return dict(_items(described, prefix))


def default_values(described: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config of all defaults, not locked."""
    values = ml_collections.ConfigDict()
    for name, item in described.items():
        values[name] = default_values(item) if isinstance(item, ml_collections.ConfigDict) else item.default
    return values


def _items(described: ml_collections.ConfigDict, prefix: str) -> Iterator[tuple[str, Field]]:
    for name, item in described.items():
        path = f"{prefix}{name}"
        if isinstance(item, ml_collections.ConfigDict):
            yield from _items(item, f"{path}.")
        elif isinstance(item, Field):
            yield path, item
        else:
            raise TypeError(
                f"configs/defaults.py: {path} has no role; write hyperparameter({item!r}), traced({item!r}), "
                f"constant({item!r}), shared({item!r}) or operational({item!r}), as configs/fields.py explains"
            )


def _unchanged(value: Any) -> Any:
    return value


def _is_not_zero(value: float) -> bool:
    return value != 0

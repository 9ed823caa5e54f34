"""The version, the error that users can fix, and the Python API, which is loaded at first use."""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

__version__ = "0.1.0"

# The Python API, loaded at first use: `import plumbline` imports nothing else. docs/python.md shows each of them.
_PUBLIC = {
    "Member": "plumbline.public.training",
    "Run": "plumbline.public.run",
    "load_config": "plumbline.public.training",
    "load_pool": "plumbline.public.training",
    "open_run": "plumbline.public.run",
    "population_history": "plumbline.public.training",
    "runs": "plumbline.public.table",
    "train": "plumbline.public.training",
    "train_population": "plumbline.public.training",
}

# How many names an error lists in full; with more, it lists the nearest.
_LISTED, _NEAREST = 40, 5


class UserError(ValueError):
    """An error that the user can fix. Commands print it in one line (what, where, what to do) and exit with code 2."""


class Preempted(Exception):
    """A signal asked to stop and everything is saved. Exit code 42; the same command resumes."""


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'plumbline' has no attribute '{name}'")
    from plumbline.rooms import hidden_room

    if hidden := hidden_room():
        raise UserError(hidden)
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


def unknown_name(where: str, name: object, known: Iterable[str]) -> UserError:
    """Makes the error for an unknown name, with the nearest known one.

    Args:
      where: the config field, flag or file that held the name.
      name: the unknown name.
      known: the valid names.

    Returns:
      The error, for the caller to raise: `model.name: unknown name 'resnt'; did you mean 'resnet'? known: ...`. Of many
      names it lists the nearest.
    """
    known, name = sorted(known), str(name)
    near = nearest(name, known)
    hint = f"did you mean '{near}'? " if near else ""
    listed = ", ".join(known) or "none"
    if len(known) > _LISTED:
        some = difflib.get_close_matches(name, known, n=_NEAREST, cutoff=0.0)
        listed = f"{', '.join(some)} and {len(known) - _NEAREST} others"
    return UserError(f"{where}: unknown name '{name}'; {hint}known: {listed}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Finds the known name that is most like `name`, starts with it, or has it as initials; "" if there is none."""
    known = sorted(known)
    if near := difflib.get_close_matches(name, known, n=1):
        return near[0]
    short = name.lower()
    begins = (each for each in known if short and each.lower().startswith(short))
    initials = (each for each in known if len(short) > 1 and short == "".join(w[:1] for w in each.lower().split("_")))
    return next(begins, "") or next(initials, "")


def pluralize(number: int, what: str) -> str:
    """Formats a number with its noun, such as "1 trial" or "2 trials"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"

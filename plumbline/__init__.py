"""What every room stands on: the version and the one error that is the user's to mend."""

import difflib
from collections.abc import Iterable

__version__ = "0.1.0"


class UserError(ValueError):
    """Something the user can mend: told in one line (what, where, what to do), exit code 2, no traceback."""


class Preempted(Exception):
    """A signal to stop has come, and all that has to be is saved: exit code 42, run the same command again."""


def unknown_name(where: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a list, naming the nearest one that is.

    Args:
      where: the config field, flag or file that held the name.
      name: what was given.
      known: the names that would have been right.

    Returns:
      The error, to be raised by the caller: `model.name: no such model 'resnt'; did you mean 'resnet'? Known: ...`.
    """
    known = sorted(known)
    near = nearest(str(name), known)
    hint = f"did you mean '{near}'? " if near else ""
    return UserError(f"{where}: unknown name '{name}'; {hint}known: {', '.join(known) or 'none'}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like `name`, begins with it, or has it for its initials; "" if none does."""
    known = sorted(known)
    if near := difflib.get_close_matches(name, known, n=1):
        return near[0]
    short = name.lower()
    begins = (each for each in known if short and each.lower().startswith(short))
    initials = (each for each in known if len(short) > 1 and short == "".join(w[:1] for w in each.lower().split("_")))
    return next(begins, "") or next(initials, "")


def counted(number: int, what: str) -> str:
    """A number of things, such as "1 trial" or "2 trials"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"

"""What every room stands on: the version and the one error that is the user's to mend."""

import difflib
from collections.abc import Iterable

__version__ = "0.1.0"

# So many names are listed in full; of more, a few.
_LISTED, _NEAREST = 40, 5


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
      The error, to be raised by the caller: `model.name: unknown name 'resnt'; did you mean 'resnet'? known: ...`. Of
      very many names it lists those nearest.
    """
    known, name = sorted(known), str(name)
    begin_alike = [each for each in known if len(name) > 1 and each.startswith(name)]
    near = difflib.get_close_matches(name, known, n=1) or begin_alike
    hint = f"did you mean '{near[0]}'? " if near else ""
    listed = ", ".join(known) or "none"
    if len(known) > _LISTED:
        nearest = difflib.get_close_matches(name, known, n=_NEAREST, cutoff=0.0)
        listed = f"{', '.join(nearest)} and {len(known) - _NEAREST} others"
    return UserError(f"{where}: unknown name '{name}'; {hint}known: {listed}")

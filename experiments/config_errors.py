"""Errors of a config file and of flags, in one line that names the file and line, or the flag.

A config file is the user's code. What it raises passes through ML Collections and absl, which wrap it; the places and
reasons are read from the chain of exceptions.
"""

import itertools
import os
import pathlib
import re
import shlex
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Sequence

import absl
import ml_collections
from absl import flags
from ml_collections import config_flags

from configs.defaults import FIELDS
from experiments.origins import LOADERS, argument_of, find_argument, shorten
from plumbline import UserError, nearest
from plumbline.rooms import CHECKOUT

# Fields that a message lists.
_SHOWN = 3
_FIELDS = "the fields are in configs/defaults.py"
_OVERRIDE = re.compile(r"--?(?:no)?config\.([\w.]+)")
_CAST = re.compile(
    r"Could not override field '(.+?)' \(reference\)\. (.*) is of original type <class '(.+?)'> .*<class '(.+?)'>"
)
# Code that is not the user's: Python's, the installed packages, wherever they are, and ours.
_NOT_USERS = (
    "<",
    *(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "purelib", "platlib")),
    *(f"{pathlib.Path(module.__file__).parent}{os.sep}" for module in (absl, ml_collections)),
    *(f"{CHECKOUT / name}{os.sep}" for name in ("experiments", "plumbline")),
    *(str(CHECKOUT / "configs" / name) for name in ("arguments.py", "defaults.py", "fields.py")),
)
_PACKAGES = ("site-packages", "dist-packages")
# Reason that absl gives -> ours.
_REASONS = {
    r"invalid literal for int": "'{value}' is not a whole number",
    r"could not convert string to float": "'{value}' is not a number",
    r"Non-boolean argument": "'{value}' is neither true nor false",
    r"value should be one of <(.*)>": "unknown name '{value}'; known: {found}",
    r"as a ConfigDict": "is a section; set one of its fields, as in --config.SECTION.FIELD=VALUE",
}


def describe(error: Exception, arguments: Sequence[str] = (), *, where: str = "--config") -> str:
    """The message for an exception raised while flags are parsed and the config file runs.

    Args:
      error: the exception.
      arguments: of the command line, with the program at their head; () if the file was not named by a flag.
      where: beginning of the message where no line of the file is to blame.
    """
    chain = list(_chain(error))
    for cause in chain:
        if place := _line_of(cause):
            reason = _reason(cause)
            file = place.rpartition(":")[0]
            # "configs/table.py: path missing; ..." is about what the file was called with.
            is_about_argument = f"/{file}".endswith(f"/{reason.partition(':')[0]}")
            place = _caller_of(cause, file, where) if is_about_argument else place
            return f"{place}: {reason}" if place else reason
    if isinstance(error, UserError):
        return str(error)
    if wrong := _wrong_override(arguments):
        return wrong
    if isinstance(error, flags.Error):
        return _translate(str(error))
    if "has no attribute 'get_config'" in str(error):
        return f"{where}: the file has no function get_config(); add one that returns the config"
    return _translate(f"{where}: {_reason(chain[-1])}")


def check_loaded(config: object, where: str) -> None:
    """Checks what a config file has returned.

    Args:
      config: what it has returned.
      where: the file.

    Raises:
      Exception: the file failed to read something; ML Collections has held the error back.
      UserError: it has returned no config, or one that lacks fields.
    """
    if type(config).__name__ == "_ErrorConfig":
        raise object.__getattribute__(config, "_error")
    if not isinstance(config, ml_collections.ConfigDict):
        returned = "None" if config is None else type(config).__name__
        raise UserError(f"{where}: get_config() returned {returned}; return the config")
    check_complete(config, f"{where}: get_config() returned a config that")


def check_complete(config: ml_collections.ConfigDict, which: str) -> None:
    """Checks that a config has every field of `configs/defaults.py`.

    Args:
      config: the config.
      which: beginning of the message, before "lacks".

    Raises:
      UserError: it lacks some.
    """
    # A section that is missing is named in place of its fields, and whole sections first.
    missing = sorted(
        {_missing_part(config, field) for field in FIELDS} - {""}, key=lambda path: (path.count("."), path)
    )
    if missing:
        listed = ", ".join(f"'{path}'" for path in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise UserError(
            f"{which} lacks {listed}{more}; begin with configs.defaults.get_config(), which has every field, and "
            "change what differs"
        )


def _missing_part(config: ml_collections.ConfigDict, path: str) -> str:
    """The first part of a path that a config does not have, as "model" of "model.mlp.bias"; "" if it has the field."""
    section, names = config, path.split(".")
    for depth, name in enumerate(names, 1):
        if not isinstance(section, ml_collections.ConfigDict) or name not in section:
            return ".".join(names[:depth])
        section = section[name]
    return ""


def _wrong_override(arguments: Sequence[str]) -> str:
    """The error for the first --config.PATH that the config does not have; "" if it has all of them."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, flag_values=values, sys_argv=[])
    overrides = [argument for argument in arguments if _OVERRIDE.match(argument)]
    if not overrides:
        return ""
    try:
        values([argument for argument in arguments if argument not in overrides], known_only=True)
        check_loaded(values.config, shorten(config_flags.get_config_filename(values["config"]).partition(":")[0]))
    except UserError as error:
        return str(error)
    except Exception:
        return ""
    for argument in overrides:
        path, section = _OVERRIDE.match(argument)[1], values.config
        for name in path.split("."):
            if not isinstance(section, ml_collections.ConfigDict):
                return f"--config.{path}: a field has no fields of its own; {_FIELDS}"
            if name not in section:
                return f"--config.{path}: unknown field '{name}'; {_hint(name, section)}"
            section = section[name]
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, and those that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _line_of(error: BaseException) -> str:
    """The innermost line of the user's code that an exception passed through, as "configs/my.py:12"; "" for none."""
    # Code that `eval` or `exec` reads from a string has a name such as "<string>".
    if isinstance(error, SyntaxError) and error.filename and error.filename[0] != "<":
        return f"{shorten(error.filename)}:{error.lineno}"
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    # What calls the loader is the command, or the user's program.
    inner = itertools.dropwhile(lambda frame: frame[0] not in LOADERS, frames)
    places = [(file, line) for file, line in inner if _is_users(file)]
    return f"{shorten(places[-1][0])}:{places[-1][1]}" if places else ""


def _caller_of(error: BaseException, file: str, flag: str) -> str:
    """The place that called the `get_config` of a file with a wrong argument; "" if the flag that names the file did.

    Args:
      error: raised in that file.
      file: as `shorten` returns it.
      flag: that names the config file.
    """
    calls = list(traceback.walk_tb(error.__traceback__))[::-1]
    calls = list(itertools.dropwhile(lambda call: shorten(call[0].f_code.co_filename) != file, calls))
    argument = next((given for frame, _ in calls if (given := argument_of(frame))), "")
    places = ((frame.f_code.co_filename, line) for frame, line in calls)
    outside = ((name, line) for name, line in places if name in LOADERS or (_is_users(name) and shorten(name) != file))
    caller, line = next(outside)
    if caller in LOADERS:
        return ""
    return (argument and find_argument(calls, {argument}, flag)) or f"{shorten(caller)}:{line}"


def _is_users(file: str) -> bool:
    return not file.startswith(_NOT_USERS) and not set(_PACKAGES) & set(pathlib.PurePath(file).parts)


def _reason(error: BaseException) -> str:
    """What went wrong, without Python's types and without a list of every field."""
    if isinstance(error, SyntaxError):
        return f"no valid Python: {error.msg}"
    if isinstance(error, OSError) and error.filename:
        return f"cannot read '{error.filename}': {error.strerror}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"no module '{error.name}'; {_import_hint(error)}"
    if isinstance(error, AttributeError) and error.args and isinstance(error.args[0], KeyError):
        error = error.args[0]
    message = str(error.args[0] if error.args else type(error).__name__).strip()
    if isinstance(error, KeyError):
        section, name = _section_and_key(error)
        return f"unknown field '{name}'; {_hint(name, section)}" if section is not None else f"unknown key {message!r}"
    if cast := _CAST.match(message):
        name, value, given, wanted = cast.groups()
        path = f"{_path_of_section(error)}{name}"
        if wanted.endswith("ConfigDict"):
            return f"{path}: is a section; set one of its fields"
        value = f"'{value}'" if given == "str" else value
        return f"{path}: {value} is of type {given}; the field takes {wanted}"
    return message


def _import_hint(error: ModuleNotFoundError) -> str:
    """What to do about a missing module, which may be beside the file that imports it, or in the current folder."""
    importing = [frame.filename for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    beside = [pathlib.Path(file).absolute().parent for file in importing[-1:]]
    name = error.name.partition(".")[0]
    for folder in (*beside, pathlib.Path.cwd()):
        found = next((path for path in (folder / f"{name}.py", folder / name) if path.exists()), None)
        if found and str(folder) not in sys.path:
            where = shlex.quote(str(folder))
            return f"there is '{found}', but Python does not look in that folder; run again with PYTHONPATH={where}"
    return "install it, or correct the name"


def _section_and_key(error: BaseException) -> tuple[ml_collections.ConfigDict | None, str]:
    """The section of a config in which an exception was raised, and the name of the field; None and "" for none."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        section, name = frame.f_locals.get("self"), frame.f_locals.get("key")
        if isinstance(section, ml_collections.ConfigDict) and isinstance(name, str):
            return section, name
    return None, ""


def _path_of_section(error: BaseException) -> str:
    """The path of the section in which an exception was raised, as "train."; "" for the whole config."""
    section, _ = _section_and_key(error)
    variables = (frame.f_locals.values() for frame, _ in traceback.walk_tb(error.__traceback__))
    configs = [value for values in variables for value in values if isinstance(value, ml_collections.ConfigDict)]
    # A variable may hold the whole config or a section of it.
    return max((path for config in configs for path in _paths(config, section)), key=len, default="")


def _paths(config: ml_collections.ConfigDict, section: ml_collections.ConfigDict | None) -> Iterator[str]:
    for name, inner in config.items():
        if inner is section:
            yield f"{name}."
        elif isinstance(inner, ml_collections.ConfigDict):
            yield from (f"{name}.{path}" for path in _paths(inner, section))


def _hint(name: str, section: ml_collections.ConfigDict) -> str:
    near = nearest(name, section)
    return f"did you mean '{near}'?" if near else f"known here: {', '.join(sorted(section))}"


def _translate(message: str) -> str:
    """A message of absl or ML Collections in our words: no traceback, no types of Python, no list of every field."""
    if unknown := re.search(r'Did you mean "(.+?)" instead of "(.+?)"', message):
        return f"--config: unknown field '{unknown[2]}'; did you mean '{unknown[1]}'?"
    if wrong := re.fullmatch(r"flag --([\w.-]+)=(.*?): (.*)", message, flags=re.DOTALL):
        name, value, reason = wrong.groups()
        for sign, meaning in _REASONS.items():
            if found := re.search(sign, reason):
                return f"--{name}: {meaning.format(value=value, found=', '.join(found.groups()).replace('|', ', '))}"
    message = re.sub(r"^flag --config=.*?: Error whilst parsing config file:", "--config:", message)
    message = re.sub(r"Traceback \(most recent call last\):.*\n(?=\S)", "", message.strip(), flags=re.DOTALL)
    message = re.sub(r"^--config:\s+\w+Error: ", "--config: ", message)
    return re.sub(r"Other fields present: \".*", "", message, flags=re.DOTALL)

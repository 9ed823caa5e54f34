"""What all commands share: flags, one-line errors and exit codes.

0 done; 2 a usage, config or data error, told in one line; 3 diverged; 42 preempted after a save (run the same command
again); 130 interrupted before there was anything to save; 1 anything else, with a traceback.
"""

import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from experiments import interruption, recipes
from plumbline import Preempted, UserError, nearest
from plumbline.exit_codes import DONE, INTERRUPTED, PREEMPTED, USER_ERROR

_FIELDS = "the fields are in configs/defaults.py"
_OVERRIDE = re.compile(r"--?(?:no)?config\.([\w.]+)")
# What absl says of a value -> what it means.
_REASONS = {
    r"invalid literal for int": "'{value}' is no whole number",
    r"could not convert string to float": "'{value}' is no number",
    r"Non-boolean argument": "'{value}' is neither true nor false",
    r"value should be one of <(.*)>": "unknown name '{value}'; known: {found}",
    r"as a ConfigDict": "is a section; set one of its fields, as in --config.SECTION.FIELD=VALUE",
}


def run(main: Callable[[list[str]], int | None]) -> None:
    """Parses the flags, calls `main`, and exits the process with the code it returns (None is 0).

    Args:
      main: takes the words that are no flags; raises `UserError` for what the user can mend.
    """
    logging.set_verbosity(logging.WARNING)
    app.run(lambda words: sys.exit(_guarded(main, words[1:])), flags_parser=_parse)


def require(**values: object) -> None:
    """Raises `UserError` for the first flag that was not given."""
    for name, value in values.items():
        if value is None:
            raise UserError(f"--{name}: missing; see --help")


def refuse(words: Sequence[str]) -> None:
    """Raises `UserError` if there are words; for commands that take flags only."""
    if words:
        raise UserError(f"'{words[0]}': this command takes flags only; see --help")


def fail(message: str) -> int:
    """Prints an error in one line, and gives the exit code for it."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return USER_ERROR


def _guarded(main: Callable[[list[str]], int | None], words: list[str]) -> int:
    try:
        with interruption.raised():
            return main(words) or DONE
    except UserError as error:
        return fail(str(error))
    except Preempted as reason:
        print(f"preempted: {reason}", file=sys.stderr)
        return PREEMPTED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has had enough, as `| head` does. What is left must not be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _parse(arguments: Sequence[str]) -> list[str]:
    if any(argument in ("--help", "-h", "-help") for argument in arguments):
        print(sys.modules["__main__"].__doc__.strip())
        sys.exit(DONE)
    arguments = recipes.resolve_config_flag(arguments)
    # A config file is the user's code and runs here: whatever it raises, for a wrong argument say, is one of usage.
    try:
        words = flags.FLAGS(list(arguments))
        _check_config_file()
        return words
    except (flags.Error, UserError) as error:
        sys.exit(fail(_clearer(str(error))))
    except (AttributeError, KeyError) as error:
        unknown = _unknown_field(arguments) or _clearer(f"--config: unknown field {_quoted(error)}; {_FIELDS}")
        sys.exit(fail(unknown))
    except Exception as error:
        message = error.args[0] if error.args else type(error).__name__
        sys.exit(fail(_clearer(f"--config: {message}")))


def _check_config_file() -> None:
    # ML Collections reports a missing file only when the config is first used, far from here.
    if "config" in flags.FLAGS and flags.FLAGS.config is not None:
        name = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]
        if not pathlib.Path(name).is_file():
            raise UserError(f"--config: no file '{name}'; the shipped ones are in configs/")


def _unknown_field(arguments: Sequence[str]) -> str:
    """What is wrong with the first --config.PATH that the config does not have; "" if that was not it."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, flag_values=values, sys_argv=[])
    overrides = [argument for argument in arguments if _OVERRIDE.match(argument)]
    try:
        values([argument for argument in arguments if argument not in overrides], known_only=True)
    except Exception:
        return ""
    for argument in overrides:
        path, section = _OVERRIDE.match(argument)[1], values.config
        for name in path.split("."):
            if not isinstance(section, ml_collections.ConfigDict):
                return f"--config.{path}: a field has no fields of its own; {_FIELDS}"
            if name not in section:
                near = nearest(name, section)
                hint = f"did you mean '{near}'?" if near else f"known here: {', '.join(sorted(section))}"
                return f"--config.{path}: unknown field '{name}'; {hint}"
            section = section[name]
    return ""


def _quoted(error: Exception) -> str:
    """The name that the error is about, in quotes."""
    message = str(error.args[0] if error.args else error).strip()
    key = re.search(r'Key "(.+?)" does not exist', message)
    return "'{}'".format(key[1] if key else message.strip("'\""))


def _clearer(message: str) -> str:
    """A message of absl or ML Collections as one of ours: no traceback, no Python types, no listing of every field."""
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

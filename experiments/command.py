"""What all commands share: flags, one-line errors and exit codes.

0 done; 2 a usage, config or data error, in one line; 3 diverged; 42 preempted after a save (run the same command
again); 130 interrupted before there was anything to save; 1 anything else, with a traceback.
"""

import io
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from experiments import backends, config_errors, interruption, origins, recipes
from plumbline import Preempted, UserError
from plumbline.exit_codes import DONE, INTERRUPTED, PREEMPTED, USER_ERROR


def run(main: Callable[[list[str]], int | None]) -> None:
    """Parses the flags, calls `main`, and exits the process with the code it returns (None is 0).

    Args:
      main: takes the words that are not flags; raises `UserError` for errors that the user can fix.
    """
    logging.set_verbosity(logging.WARNING)
    # A terminal or a pipe that is not UTF-8 gets what it can show.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app.run(lambda words: sys.exit(_guarded(main, words[1:])), flags_parser=_parse)
    except BrokenPipeError:
        _leave_pipe()
        sys.exit(DONE)


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
        with interruption.raise_interrupts():
            return main(words) or DONE
    except UserError as error:
        return fail(_locate(str(error)))
    except Preempted as reason:
        print(f"preempted: {reason}", file=sys.stderr)
        return PREEMPTED
    except (RuntimeError, AssertionError) as error:
        if message := backends.describe(error):
            return fail(message)
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _leave_pipe()
        return DONE


def _parse(arguments: Sequence[str]) -> list[str]:
    if any(argument in ("--help", "-h", "-help") for argument in arguments):
        print(sys.modules["__main__"].__doc__.strip(), flush=True)
        sys.exit(DONE)
    arguments = recipes.resolve_config_flag(arguments)
    try:
        with origins.record(origins.OF_FLAGS):
            # ML Collections warns of a config that is None, which is an error below.
            logging.set_verbosity(logging.ERROR)
            words = flags.FLAGS(list(arguments))
            logging.set_verbosity(logging.WARNING)
        _check_config_file()
        return words
    # A config file is the user's code and runs here: whatever it raises is an error of usage.
    except Exception as error:
        sys.exit(fail(config_errors.describe(error, arguments)))


def _check_config_file() -> None:
    # ML Collections reports a file that it cannot read only when the config is first used, far from here.
    if "config" not in flags.FLAGS or not flags.FLAGS["config"].present:
        return
    name = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]
    if not pathlib.Path(name).is_file():
        raise UserError(recipes.describe_missing(name))
    config_errors.check_loaded(flags.FLAGS.config, origins.shorten(name))


def _leave_pipe() -> None:
    """Drops what is left: the reader of our output has had enough, as `| head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _locate(message: str) -> str:
    """The message of an error, with the place that set the config field it is about."""
    if "config" not in flags.FLAGS or not flags.FLAGS.is_parsed() or flags.FLAGS.config is None:
        return message
    return origins.OF_FLAGS.locate(flags.FLAGS.config, message)

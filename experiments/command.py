"""What all commands share: flags, one-line errors and exit codes.

0 done; 2 a usage, config or data error, told in one line; 3 diverged; 42 preempted after a save (run the same command
again); 1 anything else, with a traceback.
"""

import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from plumbline import UserError

DONE, USER_ERROR, DIVERGED, PREEMPTED = 0, 2, 3, 42


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
        return main(words) or DONE
    except UserError as error:
        return fail(str(error))


def _parse(arguments: Sequence[str]) -> list[str]:
    if any(argument in ("--help", "-h", "-help") for argument in arguments):
        print(sys.modules["__main__"].__doc__.strip())
        sys.exit(DONE)
    # A config file is the user's code, and runs here: what it raises for a wrong argument is an error of usage. Flags
    # report what they refuse each in its own way.
    try:
        return flags.FLAGS(list(arguments), known_only=False)
    except flags.Error as error:
        sys.exit(fail(_clearer(str(error))))
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        sys.exit(fail(_clearer(f"--config: {error}")))


def _clearer(message: str) -> str:
    """ML Collections' message without the listing of every field there is."""
    message = re.sub(r"Other fields present: \".*?\"(?=\s*(Did you mean|$))", "", message, flags=re.DOTALL)
    return message.removeprefix("FATAL Flags parsing error:").strip()

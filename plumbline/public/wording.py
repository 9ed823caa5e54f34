"""Messages of the Python API: they name arguments where those of the commands name flags."""

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from plumbline import UserError

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

# Flags that are arguments of the Python API, with what a message calls them.
_ARGUMENTS = {name: name for name in ("checkpoint", "fields", "metrics", "seeds", "sort", "split", "workdir")}
_ARGUMENTS |= {"overwrite": "overwrite=True", "extend": "extend=True"}
_FLAG = re.compile(rf"(?<![\w-])--({'|'.join(_ARGUMENTS)})\b(?!=)")


def names_arguments(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Makes a function whose errors name its arguments, `workdir` in place of `--workdir`."""

    @functools.wraps(function)
    def wrapped(*arguments: _Parameters.args, **named: _Parameters.kwargs) -> _Result:
        try:
            return function(*arguments, **named)
        except UserError as error:
            error.args = (name_arguments(str(error)),)
            raise

    return wrapped


def name_arguments(message: str) -> str:
    """Replaces the flags in a message by arguments; those in a quoted command stay."""
    parts = re.split(r"(`plumbline [^`]*`)", message)
    return "".join(
        part if place % 2 else _FLAG.sub(lambda found: _ARGUMENTS[found[1]], part) for place, part in enumerate(parts)
    )

"""Where the values of a config were set: at which line of a config file, or by which flag.

ML Collections does not keep it. While the flags are parsed and the config file runs, `record` notes for each assignment
to a section of a config the line that makes it.
"""

import itertools
import os
import pathlib
import re
import sys
import types
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import absl
import ml_collections
from ml_collections import config_flags

from plumbline.rooms import CHECKOUT

LOADERS = (
    sys.modules[config_flags.DEFINE_config_file.__module__].__file__,
    str(CHECKOUT / "plumbline" / "public" / "training.py"),
)
"""The modules that run a config file: for the command, and for Python."""

_LIBRARY = f"{pathlib.Path(ml_collections.__file__).parent}{os.sep}"
_FLAGS = f"{pathlib.Path(absl.__file__).parent}{os.sep}"
# Values that these set are defaults.
_DEFAULTS = tuple(str(CHECKOUT / "configs" / name) for name in ("arguments.py", "defaults.py", "fields.py"))
_FROM_FLAGS = "--config"
# A part of the argument of a config file.
_PART = r"(?:^|[,=:]){}(?:$|[,=:])"
_PATH = re.compile(r"([a-z]\w*(?:\.\w+)*): ")


class Origins:
    """The places where the values of configs were set."""

    def __init__(self):
        """Knows no place yet; `record` adds them."""
        # The section is kept, so that no other object can get its id.
        self._places: dict[tuple[int, str], tuple[ml_collections.ConfigDict, str]] = {}

    def find(self, config: ml_collections.ConfigDict, path: str) -> str:
        """The place where a field was set.

        Args:
          config: the whole config, as it was set; no copy.
          path: of the field, or of a section: then the place where one of its fields was set.

        Returns:
          "configs/my.py:12", "--config.train.batch_size", "--config=configs/my.py:..." if the value is a part of the
          file's argument, or "" if the field has its default or does not exist.
        """
        section, place = config, ""
        *parents, name = path.split(".")
        for parent in parents:
            place = self._place(section, parent) or place
            section = section[parent] if isinstance(section, ml_collections.ConfigDict) and parent in section else None
        if not isinstance(section, ml_collections.ConfigDict) or name not in section:
            return ""
        place = self._place(section, name) or place
        if not place and isinstance(section[name], ml_collections.ConfigDict):
            places = (self.find(config, f"{path}.{inner}") for inner in section[name])
            return next((place for place in places if place), "")
        return f"--config.{path}" if place == _FROM_FLAGS else place

    def locate(self, config: ml_collections.ConfigDict, message: str) -> str:
        """An error message with the place that set the field at its beginning.

        Args:
          config: the whole config, as it was set; no copy.
          message: "optimizer.learning_rate: ..."; one that begins otherwise is returned unchanged.
        """
        match = _PATH.match(message)
        place = self.find(config, match[1]) if match else ""
        if not place:
            return message
        if place.startswith(f"--config.{match[1]}."):
            # The message is about a section, and the flag names it already.
            return f"{place}: {message[match.end() :]}"
        return f"--config.{message}" if place == f"--config.{match[1]}" else f"{place}: {message}"

    def note(self, section: ml_collections.ConfigDict, name: str, value: Any, frame: types.FrameType | None) -> None:
        """Notes that a value is set.

        Args:
          section: of the config.
          name: of the field.
          value: of the field.
          frame: of the caller that sets it.
        """
        while frame is not None and frame.f_code.co_filename.startswith(_LIBRARY):
            if frame.f_code.co_name == "copy_and_resolve_references":
                if place := self._place(frame.f_locals["self"], name):
                    self._places[id(section), name] = section, place
                return
            frame = frame.f_back
        file = frame.f_code.co_filename if frame else ""
        if file and file not in _DEFAULTS:
            line = _FROM_FLAGS if file.startswith(_FLAGS) else f"{shorten(file)}:{frame.f_lineno}"
            # "csv:data/mine.csv" may be made of a path.
            parts = {value, value.partition(":")[2]} - {""} if isinstance(value, str) else set()
            self._places[id(section), name] = section, (parts and find_argument(_calls(frame), parts)) or line

    def _place(self, section: Any, name: str) -> str:
        return self._places.get((id(section), name), (None, ""))[1]


OF_FLAGS = Origins()
"""The places of the config that --config names."""


@contextmanager
def record(origins: Origins) -> Iterator[None]:
    """Notes in `origins` where values of configs are set while the block runs."""
    assign = ml_collections.ConfigDict.__setitem__

    def assign_and_note(section: ml_collections.ConfigDict, name: str, value: Any) -> None:
        assign(section, name, value)
        origins.note(section, name, value, sys._getframe(1))

    ml_collections.ConfigDict.__setitem__ = assign_and_note
    try:
        yield
    finally:
        ml_collections.ConfigDict.__setitem__ = assign


def find_argument(calls: Iterable[tuple[types.FrameType, int]], parts: Collection[str], flag: str = "--config") -> str:
    """The place that gave `get_config` a value as a part of its argument; "" for other values.

    A config file that hands its argument to another one is not to blame, so the outermost place counts: the flag if it
    named the file, else the line of a config file that calls the other one.

    Args:
      calls: frames and the line of each, the innermost first.
      parts: what may be a part; "outcome" and "data/mine.csv" are parts of "data/mine.csv,target=outcome".
      flag: that named the outermost file.
    """
    place = ""
    for (frame, _), (caller, line) in itertools.pairwise(calls):
        if any(re.search(_PART.format(re.escape(part)), argument_of(frame)) for part in parts):
            file = frame.f_code.co_filename
            called = caller.f_code.co_filename
            place = f"{flag}={shorten(file)}:..." if called in LOADERS else f"{shorten(called)}:{line}"
    return place


def argument_of(frame: types.FrameType) -> str:
    """The argument of a call of `get_config`; "" of calls without one, and of other functions."""
    code = frame.f_code
    if code.co_name != "get_config" or not code.co_argcount:
        return ""
    argument = frame.f_locals.get(code.co_varnames[0])
    return argument if isinstance(argument, str) else ""


def _calls(frame: types.FrameType | None) -> Iterator[tuple[types.FrameType, int]]:
    while frame is not None:
        yield frame, frame.f_lineno
        frame = frame.f_back


def shorten(file: str) -> str:
    """A path as seen from the current folder if the file is below it, else as seen from the checkout or the root."""
    path = pathlib.Path(file).absolute()
    for folder in (pathlib.Path.cwd(), CHECKOUT):
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return str(path)

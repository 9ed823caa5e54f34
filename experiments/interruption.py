"""Ctrl-C in a command: one line and exit code 130, whatever was going on.

An exception that is raised while a module is being imported may get lost there, or come out as another one; and what is
raised before the command has begun, or after it has ended, nobody catches. There the process ends at once.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from plumbline.exit_codes import INTERRUPTED

_raised = False


def listen() -> None:
    """Begins, unless the process was told to take no notice of Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


@contextmanager
def raised() -> Iterator[None]:
    """While entered, Ctrl-C is the `KeyboardInterrupt` it is elsewhere, but in imports."""
    global _raised
    _raised = True
    try:
        yield
    finally:
        _raised = False


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _raised and not _is_importing(frame):
        raise KeyboardInterrupt
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False

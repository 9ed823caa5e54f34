"""Ctrl-C in a command: one line and exit code 130, at any time.

An exception raised while a module is imported may be lost or come out as another one, and before the command starts or
after it ends nobody catches it. At those times the process exits at once.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from plumbline.exit_codes import INTERRUPTED

_raised = False


def listen() -> None:
    """Installs the handler, unless the process was started to ignore Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


@contextmanager
def raise_interrupts() -> Iterator[None]:
    """Within the block, Ctrl-C raises `KeyboardInterrupt` as usual, except during imports."""
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

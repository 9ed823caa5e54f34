"""SIGTERM and SIGINT as a wish to stop, which the loop grants after the step at hand."""

import signal
import sys
import time
from types import FrameType

# Slurm and `timeout` signal a process and its parent, which passes it on: the same wish twice, milliseconds apart.
_ECHO_SECONDS = 1.0


class Signals:
    """While entered, notes the first SIGTERM or SIGINT in `received`; a second one acts as if nobody listened.

    What comes within a second of the first is taken for its echo.
    """

    def __init__(self):
        self.received = ""
        self._since = 0.0

    def __enter__(self) -> "Signals":
        """Begins to listen."""
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception: object) -> None:
        """Gives the signals back."""
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received, self._since = signal.Signals(number).name, time.monotonic()
            print(f"{self.received}: saving after this step; once more to stop at once", file=sys.stderr, flush=True)
        elif time.monotonic() - self._since > _ECHO_SECONDS:
            self._give_back()
            signal.raise_signal(number)

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

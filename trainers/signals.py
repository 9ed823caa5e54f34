"""SIGTERM and SIGINT as a wish to stop, which the loop grants after the step at hand."""

import signal
import sys
from types import FrameType


class Signals:
    """While entered, notes the first SIGTERM or SIGINT in `received`; a second one acts as if nobody listened."""

    def __init__(self):
        self.received = ""

    def __enter__(self) -> "Signals":
        """Begins to listen."""
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception: object) -> None:
        """Gives the signals back."""
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        print(f"{self.received}: saving after this step; once more to stop at once", file=sys.stderr, flush=True)
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

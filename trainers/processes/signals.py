"""SIGTERM and SIGINT as requests to stop after the current step.

The preemption service of JAX and Orbax catches SIGTERM only, and runs only after `jax.distributed.initialize`.
"""

import signal
import sys
import threading
import time
from types import FrameType

# Slurm and `timeout` signal a process and its parent, which forwards the signal: the same request arrives twice within
# milliseconds.
_REPEAT_SECONDS = 1.0


class Signals:
    """A context that records the first SIGTERM or SIGINT in `received`. A second signal has its default effect.

    Signals within a second of the first are ignored, as repetitions of it.

    Python lets only the main thread install handlers. In any other thread nothing is installed: signals have the effect
    that the rest of the program gives them, and `received` stays empty. A training there is not stopped with a save; if
    the process ends, it resumes from its last checkpoint.
    """

    def __init__(self):
        self.received = ""
        self._since = 0.0

    def __enter__(self) -> "Signals":
        """Installs the handlers, in the main thread."""
        is_main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGTERM, signal.SIGINT) if is_main else ()
        self._before = {number: signal.signal(number, self._record) for number in numbers}
        return self

    def __exit__(self, *exception: object) -> None:
        """Restores the previous handlers."""
        self._restore()

    def _record(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received, self._since = signal.Signals(number).name, time.monotonic()
            print(
                f"{self.received}: saving after this step; send it again to stop at once", file=sys.stderr, flush=True
            )
        elif time.monotonic() - self._since > _REPEAT_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

"""How workers of a study tell which other workers are alive.

Next to a journal, each worker locks a file of its own, and the kernel releases the lock when the worker dies. In a
database, each worker records heartbeats of its trials.
"""

import contextlib
import fcntl
import pathlib
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType

import sqlalchemy.exc
from absl import logging
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage

# The file that `exclusive` locks.
_ALL = "all"


class LockedFiles:
    """A locked file for each worker, in one folder."""

    def __init__(self, folder: pathlib.Path, worker: str):
        """Locks the file of `worker` until the process ends.

        Args:
          folder: of the files of all workers; created if it does not exist.
          worker: name of this worker.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._worker = folder, worker
        self._file = (folder / worker).open("a")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def is_alive(self, worker: str) -> bool:
        """Whether the process of a worker is alive."""
        if worker == self._worker:
            return True
        try:
            with (self._folder / worker).open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Admits one worker at a time to a block."""
        with (self._folder / _ALL).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def close(self) -> None:
        """Releases the lock of this worker."""
        self._file.close()


class Heartbeats:
    """A thread that records heartbeats of running trials, so that other workers leave them alone."""

    def __init__(self, storage: BaseStorage):
        """Starts the thread.

        Args:
          storage: a database, opened with a heartbeat interval.
        """
        self._storage, self._interval = storage, storage.get_heartbeat_interval()
        self._trials: set[int] = set()
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def add(self, trial: int) -> None:
        """Records a heartbeat of a trial now and in every interval from now on."""
        with self._lock:
            self._trials.add(trial)
        self._storage.record_heartbeat(trial)

    def discard(self, trials: Iterable[int]) -> None:
        """Stops recording heartbeats of these trials."""
        with self._lock:
            self._trials.difference_update(trials)

    def close(self) -> None:
        """Stops the thread."""
        self._stopped.set()
        self._thread.join()

    def __enter__(self) -> "Heartbeats":
        """Returns the object itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the thread."""
        self.close()

    def _beat(self) -> None:
        while not self._stopped.wait(self._interval):
            with self._lock:
                trials = sorted(self._trials)
            for trial in trials:
                if self._stopped.is_set():
                    return
                try:
                    self._storage.record_heartbeat(trial)
                except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError, OSError) as error:
                    # The server may be restarting, and the next heartbeat may arrive. A late one loses no result.
                    logging.warning("Cannot record a heartbeat: %s", error)
                    break

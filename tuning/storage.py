"""Storage of a study: a journal file on one machine, or a database that several machines reach."""

import fcntl
import functools
import os
import pathlib
import threading
import time
import warnings
from collections.abc import Callable
from typing import IO, Any

import optuna
import sqlalchemy
import sqlalchemy.exc
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from plumbline import UserError
from plumbline.files import expand_home, remove_half_line

# Time within which a database must answer.
REACH_SECONDS = 10.0
_SECONDS_BETWEEN_TRIES = 0.5
# Of a journal.
_BEGINNING = b'{"op_code":'
# The driver for a URL of PostgreSQL that names none.
_DRIVERS = {"postgresql": "postgresql+pg8000", "postgres": "postgresql+pg8000"}
_SCHEMES = "journal:PATH, sqlite:///PATH, postgresql+pg8000://USER:PASSWORD@HOST/DATABASE or mysql+pymysql://..."

Requeue = Callable[[optuna.Study, optuna.trial.FrozenTrial], None]


def journal_path(url: str | None, default: pathlib.Path) -> pathlib.Path | None:
    """Returns the journal file of a --storage; None if it is a database.

    Args:
      url: as given, or None.
      default: the journal if no URL is given.
    """
    if not url:
        return default
    return pathlib.Path(expand_home(url.removeprefix("journal:"))).absolute() if url.startswith("journal:") else None


def without_password(url: str) -> str:
    """Returns a --storage without its password, for messages."""
    try:
        return url if url.startswith("journal:") else sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return url


def check(url: str | None, name: str | None) -> None:
    """Checks a --storage and a --study without opening them.

    Raises:
      UserError: the URL is not a storage, or the study of a database has no name.
    """
    if journal_path(url, pathlib.Path()) is not None:
        return
    _parsed(url)
    if not name:
        raise UserError("--study: missing; a database holds several, so name the one of this search")


def open_journal(path: pathlib.Path) -> BaseStorage:
    """Opens a journal, or creates it.

    Raises:
      UserError: it cannot be written, or is not a journal.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _Lock(path)
        lock.acquire()
        lock.release()
        return JournalStorage(JournalFileBackend(os.fspath(path), lock_obj=lock))
    except OSError as error:
        raise UserError(f"--storage: cannot write to '{path}': {error.strerror}; choose another path") from None
    except (ValueError, KeyError) as error:
        raise UserError(f"--storage: '{path}' is not the journal of a study ({error}); choose another path") from None


def open_database(url: str, *, dead_after: int, requeue: Requeue) -> tuple[BaseStorage, Callable[[], None]]:
    """Opens a database, and creates Optuna's tables in an empty one.

    Args:
      url: for SQLAlchemy, such as "sqlite:///study.db" or "postgresql+pg8000://user:password@host/database".
      dead_after: seconds without a heartbeat after which the worker of a trial counts as dead.
      requeue: called for each trial of a dead worker.

    Returns:
      The storage, and a function that closes its connections.

    Raises:
      UserError: the URL is not valid, its driver is missing, or it did not answer within `REACH_SECONDS`.
    """
    parsed = _parsed(url)
    shown, began = parsed.render_as_string(hide_password=True), time.monotonic()
    arguments = _engine_arguments(parsed.get_backend_name())
    while True:
        try:
            _connect(parsed, arguments, REACH_SECONDS - (time.monotonic() - began))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                database = RDBStorage(
                    parsed.render_as_string(hide_password=False),
                    engine_kwargs=arguments,
                    heartbeat_interval=max(1, dead_after // 3),
                    grace_period=dead_after,
                    heartbeat_stale_trial_callback=requeue,
                )
            return optuna.storages.get_storage(database), functools.partial(_close, database)
        except ImportError as error:
            raise UserError(
                f"--storage: '{shown}' needs a driver that is not installed ({error}); install it with pip"
            ) from None
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError, RuntimeError) as error:
            # Two workers that create the tables of one database at the same time also raise these errors.
            spent = time.monotonic() - began
            if spent + _SECONDS_BETWEEN_TRIES > REACH_SECONDS:
                raise UserError(
                    f"--storage: '{shown}' cannot be reached; gave up after {spent:.0f} s ({_reason(error)})"
                ) from None
            time.sleep(_SECONDS_BETWEEN_TRIES)


def _parsed(url: str) -> sqlalchemy.URL:
    try:
        parsed = sqlalchemy.make_url(url)
        parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
        parsed.get_dialect()
        return parsed
    except (sqlalchemy.exc.ArgumentError, ImportError, ValueError):
        raise UserError(f"--storage: '{without_password(url)}' is not a storage; write {_SCHEMES}") from None


class _Lock(JournalFileSymlinkLock):
    """A lock on a journal that the kernel releases when its process dies, so that no lock file blocks later processes.

    Whoever takes it first removes the half line that a process has left that died while it was writing.
    """

    def __init__(self, path: pathlib.Path):
        super().__init__(os.fspath(path))
        self._journal, self._path = path, path.with_name(f"{path.name}.lock")
        self._held: IO[str] | None = None

    def acquire(self) -> bool:
        self._held = self._path.open("a")
        fcntl.flock(self._held, fcntl.LOCK_EX)
        try:
            _check_journal(self._journal)
            remove_half_line(self._journal)
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        self._held.close()


def _check_journal(path: pathlib.Path) -> None:
    """Checks that a file, if it is there, is a journal.

    Raises:
      ValueError: it is not, and must not be changed.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        if not _BEGINNING.startswith(file.read(len(_BEGINNING))):
            raise ValueError("it holds something else")


def _close(database: RDBStorage) -> None:
    database.remove_session()
    database.engine.dispose()


def _connect(url: sqlalchemy.URL, arguments: dict[str, Any], timeout: float) -> None:
    """Connects once, in a thread, so that a server that never answers cannot block this process.

    Raises:
      TimeoutError: there was no answer within `timeout` seconds.
    """
    raised: list[BaseException] = []

    def connect() -> None:
        try:
            engine = sqlalchemy.create_engine(url, **arguments)
            try:
                engine.connect().close()
            finally:
                engine.dispose()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(max(timeout, 0.0))
    if thread.is_alive():
        raise TimeoutError("no answer")
    if raised:
        raise raised[0]


def _engine_arguments(backend: str) -> dict[str, Any]:
    # For SQLite, seconds to wait for another writer. A server may restart between queries: connections are tested.
    return {"connect_args": {"timeout": 60}} if backend == "sqlite" else {"pool_pre_ping": True}


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:200]

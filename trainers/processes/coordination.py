"""What the processes of a run do together: agree before the first step, share a value, and end together.

All of it is trivial in a run of one process.
"""

import json
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import jax

from plumbline import UserError
from trainers.processes import cluster_detection
from trainers.processes.peer_channel import Links

_USER_ERROR, _INTERRUPTED = 2, 130
_SHOWN_FACTS = 3


def process_index() -> int:
    """Which process this is; process 0 writes what is written once."""
    return jax.process_index()


def process_count() -> int:
    """How many processes there are."""
    return jax.process_count()


def agree(facts: Mapping[str, Any], error: str | None = None, *, timeout: float = 3600.0) -> None:
    """Returns once every process has come here with the same facts; else all of them raise, so that none is left alone.

    Args:
      facts: by name, what must be the same on all processes; anything JSON knows, mappings may be nested.
      error: what this process found wrong in its own checks; its facts do not count then.
      timeout: seconds to wait for the slowest process.

    Raises:
      UserError: an error in some process, facts that differ, or a process that has not come in time. The message names
        the process.
    """
    links = _links()
    if links is None:
        if error is not None:
            raise UserError(error)
        return
    try:
        reports = links.gather("agreement", {"facts": _flat(facts), "error": error}, timeout)
        # Process 0 may have begun to wait just now.
        problem = links.spread("verdict", _problem(links, reports) if reports else None, 2 * timeout)
    except TimeoutError as late:
        raise UserError(f"{late} within {timeout:g} s; see what holds it up") from None
    if problem:
        raise _CommonError(problem)


def broadcast(value: Any, *, timeout: float = 3600.0) -> Any:
    """Process 0's value, at every process.

    Args:
      value: anything JSON knows (tuples become lists); only process 0's counts.
      timeout: seconds to wait for process 0.

    Raises:
      TimeoutError: process 0 has not come in time.
    """
    links = _links()
    value = json.loads(json.dumps(value))
    return value if links is None else links.spread("broadcast", value, timeout)


class Watchdog:
    """While entered, a process that ends by an error takes the others along, and none ends before the others.

    A process that dies takes them along from `joining.join` on. The block should hold all that a joined process does.

    At the end of a block that went well, waits until every process has come to its end. Where it ends by an exception,
    tells the others and ends this process, without the minutes that JAX would wait for them: a `UserError` is printed
    in one line, exit code 2; anything else with its traceback, exit code 1. The others print the reason with the name
    of this process and end with the same code. A failure that another process' death has caused, as that of a
    collective, is told by the name of that process instead. In a run of one process exceptions pass through.
    """

    def __enter__(self) -> "Watchdog":
        """Begins the block."""
        self._links = _links()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends it, together with the others."""
        if self._links is None:
            return
        if error is not None:
            _fail(self._links, error)
        self._links.finish()


@contextmanager
def fail_together() -> Iterator[None]:
    """Where the block ends by an exception, ends this process and the others as `Watchdog` does, but right here.

    For a block within clean-up that waits for the other processes, as closing checkpoints does: they would not come.
    """
    try:
        yield
    except BaseException as error:
        if links := _links():
            _fail(links, error)
        raise


class _CommonError(UserError):
    """An error that every process raises."""


def _links() -> Links | None:
    links = cluster_detection.joined()
    if links is None and jax.distributed.is_initialized() and jax.process_count() > 1:
        raise RuntimeError("the processes were joined by other means than trainers.processes.cluster_detection.join")
    return links if links and links.processes > 1 else None


def _fail(links: Links, error: BaseException) -> None:
    """Ends this process and the others; returns only if the error is none, as `sys.exit()`."""
    if isinstance(error, SystemExit) and not error.code:
        return
    code, reason, shown = _ending(error)
    if isinstance(error, _CommonError):
        print(shown, file=sys.stderr, flush=True)
        links.part(code)
    links.fail(code, reason, shown)


def _problem(links: Links, reports: list[Mapping[str, Any]]) -> str | None:
    errors = {process: report["error"] for process, report in enumerate(reports) if report["error"] is not None}
    if errors:
        # The same on all is nothing of a single process.
        if len(errors) == len(reports) and len(set(errors.values())) == 1:
            return errors[0]
        process, text = next(iter(errors.items()))
        return f"{links.name(process)}: {text}"
    expected = reports[0]["facts"]
    for process, report in enumerate(reports):
        facts = report["facts"]
        differing = [name for name in {**expected, **facts} if expected.get(name) != facts.get(name)]
        if differing:
            said = "; ".join(
                f"{name} is {_shown(facts, name)}, process 0's is {_shown(expected, name)}"
                for name in differing[:_SHOWN_FACTS]
            )
            more = f" and {len(differing) - _SHOWN_FACTS} more differ" if len(differing) > _SHOWN_FACTS else ""
            return f"{links.name(process)}: {said}{more}; all must run the same command on the same code and data"
    return None


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The facts as text, so that NaN equals NaN."""
    flat = {}
    for name, value in facts.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: json.dumps(value)}
    return flat


def _shown(facts: Mapping[str, str], name: str) -> str:
    text = facts.get(name, "missing")
    return text if len(text) <= 80 else text[:77] + "..."


def _ending(error: BaseException) -> tuple[int, str, str]:
    """Exit code, reason for the others in one line, and what is printed here."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    match error:
        case UserError():
            line = " ".join(str(error).split())
            return _USER_ERROR, line, f"error: {line}"
        case KeyboardInterrupt():
            return _INTERRUPTED, "interrupted", "interrupted"
        case SystemExit(code=int(code)):
            return code, f"ended with exit code {code}", f"ended with exit code {code}"
        case SystemExit():
            return 1, str(error.code), str(error.code)
    return 1, reason, "".join(traceback.format_exception(error)).rstrip()

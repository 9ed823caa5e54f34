"""Coordination of the processes of a run: agreement before the first step, broadcast of a value, and a common end.

In a run of one process all of this is trivial.
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
from trainers.processes import join
from trainers.processes.peer_channel import PeerChannel

_USER_ERROR, _INTERRUPTED = 2, 130
_LISTED_FACTS = 3


def process_index() -> int:
    """Returns the id of this process. Process 0 writes files that are written once."""
    return jax.process_index()


def process_count() -> int:
    """Returns the number of processes."""
    return jax.process_count()


def agree(facts: Mapping[str, Any], error: str | None = None, *, timeout: float = 3600.0) -> None:
    """Waits until every process has called this with the same facts. Otherwise all of them raise.

    Args:
      facts: values by name that must be equal on all processes; JSON values, mappings may be nested.
      error: an error that this process found in its own checks; then its facts are ignored.
      timeout: seconds to wait for the slowest process.

    Raises:
      UserError: a process reports an error, facts differ, or a process does not arrive in time. The message names the
        process.
    """
    channel = _open_channel()
    if channel is None:
        if error is not None:
            raise UserError(error)
        return
    try:
        reports = channel.gather("agreement", {"facts": _flatten(facts), "error": error}, timeout)
        # Process 0 may have just started to wait.
        problem = channel.broadcast("verdict", _find_problem(channel, reports) if reports else None, 2 * timeout)
    except TimeoutError as late:
        raise UserError(f"{late} within {timeout:g} s; check that process") from None
    if problem:
        raise _SharedError(problem)


def broadcast(value: Any, *, timeout: float = 3600.0) -> Any:
    """Sends the value of process 0 to every process.

    Args:
      value: any JSON value (tuples become lists); only that of process 0 is used.
      timeout: seconds to wait for process 0.

    Returns:
      The value of process 0.

    Raises:
      TimeoutError: process 0 sent no value in time.
    """
    channel = _open_channel()
    value = json.loads(json.dumps(value))
    return value if channel is None else channel.broadcast("broadcast", value, timeout)


class Watchdog:
    """A block that all processes leave together: an error in one process ends all of them.

    The block should contain all work of a process after `join`. The death of a process ends the others from `join` on,
    also outside of the block.

    At the end of a successful block, this waits until every process has reached its end. If the block ends with an
    exception, this notifies the others and ends the process without the shutdown barrier of JAX, which may take
    minutes. A `UserError` is printed in one line, with exit code 2; any other exception with its traceback, with exit
    code 1. The other processes print the reason with the name of this process and end with the same code. If the death
    of another process is the cause, for example of a failed collective, that process is named instead. In a run of one
    process exceptions propagate.
    """

    def __enter__(self) -> "Watchdog":
        """Starts the block."""
        self._channel = _open_channel()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends the block, together with the other processes."""
        if self._channel is None:
            return
        if error is not None:
            _fail(self._channel, error)
        self._channel.finish()


@contextmanager
def fail_together() -> Iterator[None]:
    """Ends all processes as `Watchdog` does if the block raises, but at once.

    For code inside a clean-up that would wait for the other processes, as closing checkpoints does.
    """
    try:
        yield
    except BaseException as error:
        if channel := _open_channel():
            _fail(channel, error)
        raise


class _SharedError(UserError):
    """An error that every process raises."""


def _open_channel() -> PeerChannel | None:
    channel = join.channel()
    if channel is None and jax.distributed.is_initialized() and jax.process_count() > 1:
        raise RuntimeError("jax.distributed was initialized by other code than trainers.processes.join")
    return channel if channel and channel.processes > 1 else None


def _fail(channel: PeerChannel, error: BaseException) -> None:
    """Ends all processes. Returns only for a successful exit, such as `sys.exit()`."""
    if isinstance(error, SystemExit) and not error.code:
        return
    code, reason, output = _describe_exit(error)
    if isinstance(error, _SharedError):
        print(output, file=sys.stderr, flush=True)
        channel.leave(code)
    channel.fail(code, reason, output)


def _find_problem(channel: PeerChannel, reports: list[Mapping[str, Any]]) -> str | None:
    errors = {process: report["error"] for process, report in enumerate(reports) if report["error"] is not None}
    if errors:
        # An error that is the same on all processes needs no name.
        if len(errors) == len(reports) and len(set(errors.values())) == 1:
            return errors[0]
        process, text = next(iter(errors.items()))
        return f"{channel.name(process)}: {text}"
    expected = reports[0]["facts"]
    for process, report in enumerate(reports):
        facts = report["facts"]
        differing = [name for name in {**expected, **facts} if expected.get(name) != facts.get(name)]
        if differing:
            listed = "; ".join(
                f"{name} is {_format_fact(facts, name)}, process 0's is {_format_fact(expected, name)}"
                for name in differing[:_LISTED_FACTS]
            )
            more = f" and {len(differing) - _LISTED_FACTS} more differ" if len(differing) > _LISTED_FACTS else ""
            return f"{channel.name(process)}: {listed}{more}; all must run the same command on the same code and data"
    return None


def _flatten(facts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flattens the facts and converts them to JSON, so that NaN equals NaN."""
    flat = {}
    for name, value in facts.items():
        flat |= (
            _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: json.dumps(value)}
        )
    return flat


def _format_fact(facts: Mapping[str, str], name: str) -> str:
    text = facts.get(name, "missing")
    return text if len(text) <= 80 else text[:77] + "..."


def _describe_exit(error: BaseException) -> tuple[int, str, str]:
    """Returns the exit code, the reason in one line for the other processes, and the output of this process."""
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

"""The roll call: the processes of a run come together before JAX starts.

Process 0 listens on the coordinator's port until every other process has called and said who it is, and stops before
JAX's own service takes that port; the connections stay, so that no other port has to be open. JAX alone ends in an
abort where the coordinator cannot be reached, its port is taken or a process does not come, and cannot say who came.
"""

import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Mapping
from typing import NoReturn

from plumbline import UserError
from trainers.processes.peer_channel import read_line, write

_HELLO_SECONDS = 5.0
_RETRY_SECONDS = 0.2


def call_roll(
    coordinator: str, processes: int, process_id: int, *, timeout: float, setting: str = "--coordinator"
) -> tuple[list[str], dict[int, socket.socket]]:
    """Waits until all processes have come.

    Args:
      coordinator: HOST:PORT, where process 0 listens until all are there.
      processes: how many there are.
      process_id: which of them this is.
      timeout: seconds after which to give up.
      setting: where the address came from, for messages.

    Returns:
      The host of each process, and this one's connections by the process at the other end: to all the others for
      process 0, to process 0 for each other one.

    Raises:
      UserError: the coordinator cannot be reached or its port is taken, not all have come in time, or they do not fit
        together.
    """
    host, port = split_address(coordinator)
    deadline = time.monotonic() + timeout
    me = _Hello(process_id, processes, socket.gethostname())
    where = f"{setting}: {coordinator}"
    if process_id == 0:
        return _wait_for_all(port, me, deadline, where, timeout)
    hosts, connection = _call(host, port, me, deadline, where, timeout)
    return hosts, {0: connection}


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, or [HOST]:PORT for an IPv6 address.

    Raises:
      ValueError: it is no such address.
    """
    host, _, port = address.rpartition(":")
    if not host or (":" in host and not (host[0] == "[" and host[-1] == "]")) or not 0 < int(port) < 65536:
        raise ValueError(address)
    return host.strip("[]"), int(port)


@dataclasses.dataclass(frozen=True)
class _Hello:
    process_id: int
    processes: int
    host: str


def _wait_for_all(
    port: int, me: _Hello, deadline: float, where: str, timeout: float
) -> tuple[list[str], dict[int, socket.socket]]:
    """Process 0's side of the roll call: hosts of all processes and connections to the others."""
    came: dict[int, tuple[_Hello, socket.socket]] = {}
    try:
        listener = _listen(port)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise UserError(f"{where}: process 0 cannot listen there: {reason}; choose another port") from None
    with listener:
        while len(came := _waiting(came)) < me.processes - 1:
            left = deadline - time.monotonic()
            if left <= 0:
                missing = ", ".join(str(process) for process in range(1, me.processes) if process not in came)
                _turn_away(
                    came,
                    f"{where}: after {timeout:g} s {len(came) + 1} of {me.processes} processes have come; missing: "
                    f"{missing}; see what became of them, or give them longer with --initialization-timeout",
                )
            listener.settimeout(min(left, 1.0))
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            if hello := _greeted(connection):
                came = _waiting(came)  # One that was started again has gone before.
                if problem := _misfit(hello, me, came):
                    came[-1] = hello, connection
                    _turn_away(came, f"{where}: {problem}")
                came[hello.process_id] = hello, connection
    hosts = [me.host, *(came[process][0].host for process in range(1, me.processes))]
    for _, connection in came.values():
        with contextlib.suppress(OSError):  # One that has died since is noticed by its link.
            write(connection, {"kind": "begin", "hosts": hosts})
    return hosts, {process: connection for process, (_, connection) in came.items()}


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server(("", port), backlog=1024)


def _greeted(connection: socket.socket) -> _Hello | None:
    """What a caller says of itself; None for one that is none of ours."""
    connection.settimeout(_HELLO_SECONDS)
    try:
        return _Hello(**read_line(connection))
    except (OSError, EOFError, ValueError, TypeError):
        connection.close()
        return None


def _misfit(hello: _Hello, me: _Hello, came: Mapping[int, tuple[_Hello, socket.socket]]) -> str:
    if hello.processes != me.processes:
        return (
            f"process {hello.process_id} ({hello.host}) was started as one of {hello.processes} processes, process 0 "
            f"({me.host}) as one of {me.processes}; start all with the same number"
        )
    if hello.process_id == 0 or hello.process_id in came:
        other = came[hello.process_id][0].host if hello.process_id else me.host
        return f"two processes came as process {hello.process_id}, on {other} and {hello.host}; give each its own id"
    return ""


def _turn_away(came: Mapping[int, tuple[_Hello, socket.socket]], problem: str) -> NoReturn:
    for _, connection in came.values():
        with contextlib.suppress(OSError):
            write(connection, {"kind": "refused", "text": problem})
        connection.close()
    raise UserError(problem)


def _waiting(came: Mapping[int, tuple[_Hello, socket.socket]]) -> dict[int, tuple[_Hello, socket.socket]]:
    """Those who came and have not gone again; the connections of the others are closed."""
    gone = [process for process, (_, connection) in came.items() if _gone(connection)]
    for process in gone:
        came[process][1].close()
    return {process: entry for process, entry in came.items() if process not in gone}


def _gone(connection: socket.socket) -> bool:
    """Whether a caller that waits has hung up."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(_HELLO_SECONDS)


def _call(
    host: str, port: int, me: _Hello, deadline: float, where: str, timeout: float
) -> tuple[list[str], socket.socket]:
    """The other processes' side of the roll call: hosts of all processes and the connection to process 0."""
    problem = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            connection = socket.create_connection((host, port), timeout=min(left, 10.0))
            write(connection, dataclasses.asdict(me))
            # Process 0 may have begun to wait later than this one; it gives up by itself.
            connection.settimeout(timeout + _HELLO_SECONDS)
            answer = read_line(connection)
            if answer["kind"] == "begin":
                return answer["hosts"], connection
            if answer["kind"] == "refused":
                raise UserError(answer["text"])
        except UserError:
            raise
        except (OSError, EOFError) as error:
            problem = (
                "no such host" if isinstance(error, socket.gaierror) else getattr(error, "strerror", "") or problem
            )
        except (ValueError, KeyError, TypeError):
            problem = "something else answers there"
        time.sleep(min(_RETRY_SECONDS, max(left, 0.0)))
    raise UserError(
        f"{where}: process 0 was not reached within {timeout:g} s ({problem.lower()}); see that it runs there and that "
        "the port is open, or wait longer with --initialization-timeout"
    )

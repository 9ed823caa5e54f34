"""The rendezvous: the processes of a run meet before JAX starts.

Process 0 listens on the coordinator's port until every other process has connected and named itself. It stops before
the service of JAX takes that port. The connections are kept for the peer channel, so no other port has to be open. See
`trainers.processes` for what JAX does if a process does not arrive.
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


def await_peers(
    coordinator: str, processes: int, process_id: int, *, timeout: float, setting: str = "--coordinator"
) -> tuple[list[str], dict[int, socket.socket]]:
    """Waits until all processes have arrived.

    Args:
      coordinator: HOST:PORT, where process 0 listens until all have arrived.
      processes: number of processes.
      process_id: id of this process.
      timeout: seconds to wait.
      setting: origin of the address, for messages.

    Returns:
      The host of each process, and the connections of this process by the id at the other end: to all others on process
      0, to process 0 on all others.

    Raises:
      UserError: the coordinator cannot be reached, its port is taken, a process does not arrive in time, or two
        processes contradict each other.
    """
    host, port = split_address(coordinator)
    deadline = time.monotonic() + timeout
    me = _Hello(process_id, processes, socket.gethostname())
    where = f"{setting}: {coordinator}"
    if process_id == 0:
        return _accept_all(port, me, deadline, where, timeout)
    hosts, connection = _connect(host, port, me, deadline, where, timeout)
    return hosts, {0: connection}


def split_address(address: str) -> tuple[str, int]:
    """Splits HOST:PORT, or [HOST]:PORT for an IPv6 address.

    Raises:
      ValueError: it is not such an address.
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


def _accept_all(
    port: int, me: _Hello, deadline: float, where: str, timeout: float
) -> tuple[list[str], dict[int, socket.socket]]:
    """Accepts all other processes, on process 0. Returns the hosts of all and the connections."""
    arrived: dict[int, tuple[_Hello, socket.socket]] = {}
    try:
        listener = _listen(port)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise UserError(f"{where}: process 0 cannot listen there: {reason}; choose another port") from None
    with listener:
        while len(arrived := _drop_closed(arrived)) < me.processes - 1:
            left = deadline - time.monotonic()
            if left <= 0:
                missing = ", ".join(str(process) for process in range(1, me.processes) if process not in arrived)
                _refuse_all(
                    arrived,
                    f"{where}: after {timeout:g} s {len(arrived) + 1} of {me.processes} processes have arrived; "
                    f"missing: {missing}; check these processes, or raise --initialization-timeout",
                )
            listener.settimeout(min(left, 1.0))
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            if hello := _read_hello(connection):
                arrived = _drop_closed(arrived)  # A restarted process has closed its first connection.
                if problem := _find_conflict(hello, me, arrived):
                    arrived[-1] = hello, connection
                    _refuse_all(arrived, f"{where}: {problem}")
                arrived[hello.process_id] = hello, connection
    hosts = [me.host, *(arrived[process][0].host for process in range(1, me.processes))]
    for _, connection in arrived.values():
        with contextlib.suppress(OSError):  # A process that died meanwhile is noticed by the peer channel.
            write(connection, {"kind": "begin", "hosts": hosts})
    return hosts, {process: connection for process, (_, connection) in arrived.items()}


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server(("", port), backlog=1024)


def _read_hello(connection: socket.socket) -> _Hello | None:
    """Reads the greeting of a process. Returns None for anything else."""
    connection.settimeout(_HELLO_SECONDS)
    try:
        return _Hello(**read_line(connection))
    except (OSError, EOFError, ValueError, TypeError):
        connection.close()
        return None


def _find_conflict(hello: _Hello, me: _Hello, arrived: Mapping[int, tuple[_Hello, socket.socket]]) -> str:
    if hello.processes != me.processes:
        return (
            f"process {hello.process_id} ({hello.host}) was started as one of {hello.processes} processes, process 0 "
            f"({me.host}) as one of {me.processes}; start all with the same number"
        )
    if hello.process_id == 0 or hello.process_id in arrived:
        other = arrived[hello.process_id][0].host if hello.process_id else me.host
        return (
            f"two processes have the id {hello.process_id}, on {other} and {hello.host}; give each its own --process-id"
        )
    return ""


def _refuse_all(arrived: Mapping[int, tuple[_Hello, socket.socket]], problem: str) -> NoReturn:
    for _, connection in arrived.values():
        with contextlib.suppress(OSError):
            write(connection, {"kind": "refused", "text": problem})
        connection.close()
    raise UserError(problem)


def _drop_closed(arrived: Mapping[int, tuple[_Hello, socket.socket]]) -> dict[int, tuple[_Hello, socket.socket]]:
    """Removes processes that have disconnected, and closes their connections."""
    closed = [process for process, (_, connection) in arrived.items() if _is_closed(connection)]
    for process in closed:
        arrived[process][1].close()
    return {process: entry for process, entry in arrived.items() if process not in closed}


def _is_closed(connection: socket.socket) -> bool:
    """Returns whether the other end has closed the connection."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(_HELLO_SECONDS)


def _connect(
    host: str, port: int, me: _Hello, deadline: float, where: str, timeout: float
) -> tuple[list[str], socket.socket]:
    """Connects to process 0, on the other processes. Returns the hosts of all and the connection."""
    problem = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            connection = socket.create_connection((host, port), timeout=min(left, 10.0))
            write(connection, dataclasses.asdict(me))
            # Process 0 may have started to wait later than this process; it reports its own timeout.
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
            problem = "another program answers there"
        time.sleep(min(_RETRY_SECONDS, max(left, 0.0)))
    raise UserError(
        f"{where}: process 0 was not reached within {timeout:g} s ({problem.lower()}); check that it runs and that "
        "the port is open, or raise --initialization-timeout"
    )

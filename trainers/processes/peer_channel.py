"""Connections between the processes of one run: messages, heartbeats, and a common end.

Every process except process 0 has one TCP connection to process 0, from the rendezvous to the end of the run. Messages
are lines of JSON.

The operating system closes the connection of a process that dies, so its death is noticed at once. A process that is
frozen or cut off is noticed when it has sent no heartbeat for `heartbeat_timeout` seconds. See
`trainers.processes` for what JAX does without this module.
"""

import collections
import contextlib
import json
import os
import queue
import selectors
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

# How long process 0 waits for the others to disconnect when all end. It runs the service of JAX: if it ended first, JAX
# would abort the others.
_DISCONNECT_SECONDS = 5.0
# How long a process that failed waits for the news that the death of another process was the cause.
_CAUSE_SECONDS = 0.5


class PeerChannel:
    """The connections of one process: process 0 is connected to all others, every other process to process 0.

    A thread reads them from the start. If another process ends before all have called `finish`, the thread ends this
    process with a line on stderr and `os._exit`: the main thread may be blocked in a collective that never returns.
    """

    def __init__(
        self, process_id: int, hosts: Sequence[str], sockets: Mapping[int, socket.socket], heartbeat_timeout: float
    ):
        """Takes ownership of the connections.

        Args:
          process_id: id of this process.
          hosts: host name of each process.
          sockets: connections by the id of the process at the other end.
          heartbeat_timeout: seconds without a heartbeat after which a process counts as dead.
        """
        self.process_id, self.hosts, self.processes = process_id, tuple(hosts), len(hosts)
        self.heartbeat_timeout = heartbeat_timeout
        self._heartbeat_interval = min(2.0, heartbeat_timeout / 5)
        self._sockets = dict(sockets)
        self._sending = {peer: threading.Lock() for peer in sockets}
        self._last_heard = dict.fromkeys(sockets, time.monotonic())
        self._unread = dict.fromkeys(sockets, b"")
        self._values: dict[int, queue.SimpleQueue] = {peer: queue.SimpleQueue() for peer in sockets}
        self._leaving: set[int] = set()  # Processes that may close their connection.
        self._done: set[int] = set()
        self._finished = threading.Event()
        self._end_request: collections.deque[tuple[int, str]] = collections.deque()
        self._ending = False
        self._selector = selectors.DefaultSelector()
        for peer, connection in self._sockets.items():
            connection.settimeout(heartbeat_timeout)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(connection, selectors.EVENT_READ, peer)
        self._thread = threading.Thread(target=self._run, name="peer channel", daemon=True)
        if self._sockets:
            self._thread.start()
        else:
            self._finished.set()

    def name(self, process: int) -> str:
        """Returns the name of a process in messages: `process 1 of 2 (HOST)`."""
        return f"process {process} of {self.processes} ({self.hosts[process]})"

    def gather(self, what: str, value: Any, timeout: float) -> list[Any]:
        """Sends a value of every process to process 0.

        Args:
          what: name of the value, the same on all processes; for messages.
          value: any JSON value.
          timeout: seconds that process 0 waits for the others.

        Returns:
          On process 0 all values in the order of processes; on other processes an empty list.

        Raises:
          TimeoutError: a process sent no value in time.
          RuntimeError: the processes are at different places of the program.
        """
        if self.process_id:
            self._send(0, {"kind": "value", "what": what, "value": value})
            return []
        value = json.loads(json.dumps(value))  # The same conversion as that of received values.
        deadline = time.monotonic() + timeout
        return [value, *(self._value(peer, what, deadline - time.monotonic()) for peer in range(1, self.processes))]

    def broadcast(self, what: str, value: Any, timeout: float) -> Any:
        """Sends a value of process 0 to every process.

        Args:
          what: name of the value, the same on all processes; for messages.
          value: any JSON value; only that of process 0 is used.
          timeout: seconds to wait for process 0.

        Returns:
          The value of process 0.

        Raises:
          TimeoutError: process 0 sent no value in time.
          RuntimeError: the processes are at different places of the program.
        """
        if self.process_id:
            return self._value(0, what, timeout)
        self._send_all({"kind": "value", "what": what, "value": value})
        return value

    def finish(self) -> None:
        """Waits until every process has called this, at the end of a successful run. Then the monitoring stops."""
        if not self._sockets:
            return
        if self.process_id == 0:
            self._done.add(0)
        else:
            self._send(0, {"kind": "done"})
        self._finished.wait()
        self._thread.join()

    def leave(self, code: int) -> NoReturn:
        """Ends this process with an error that every other process raises as well."""
        if self.process_id:
            self._send(0, {"kind": "leaving"})
            _exit(code)
        self._leaving.update(self._sockets)
        self._end(code, "")

    def fail(self, code: int, reason: str, output: str) -> NoReturn:
        """Ends this process, whose work failed, and all others.

        Args:
          code: exit code of all processes.
          reason: the error in one line; the others print it with the name of this process.
          output: text that this process prints.
        """
        # The cause may be the death of another process, which makes collectives fail. Then the thread reports that
        # process instead.
        time.sleep(_CAUSE_SECONDS)
        if not self._ending:
            print(output, file=sys.stderr, flush=True)
        self._end(code, reason)

    # ---- Methods of the thread, except `_end`, `_value` and the sending ones.

    def _end(self, code: int, reason: str) -> NoReturn:
        """Asks the thread to end all processes. Only the thread decides which reason is reported."""
        self._end_request.append((code, reason))
        self._thread.join()
        _exit(code)

    def _run(self) -> None:
        try:
            next_heartbeat, before = 0.0, time.monotonic()
            while self._sockets and not self._finished.is_set():
                self._read(min(self._heartbeat_interval, 0.1))
                now = time.monotonic()
                if now - before > self.heartbeat_timeout / 2:
                    # This process was frozen itself, perhaps together with the others. Restart all timeouts.
                    self._last_heard = dict.fromkeys(self._last_heard, now)
                before = now
                if now >= next_heartbeat:
                    self._send_all({"kind": "heartbeat"})
                    next_heartbeat = now + self._heartbeat_interval
                for peer, last_heard in list(self._last_heard.items()):
                    if now - last_heard > self.heartbeat_timeout:
                        self._handle_loss(peer, f"sent no heartbeat for {self.heartbeat_timeout:g} s")
                if self._end_request:
                    code, reason = self._end_request.popleft()
                    self._end_all(code, reason and f"{self.name(self.process_id)}: {reason}", is_reported=True)
                if self._done == set(range(self.processes)):
                    self._send_all({"kind": "all done"})
                    self._wait_for_disconnects()
                    self._finished.set()
            for peer in list(self._sockets):
                self._disconnect(peer)
        except Exception:
            traceback.print_exc()
            _exit(1)

    def _read(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            peer = key.data
            try:
                data = key.fileobj.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                self._handle_loss(peer, "has died")
                continue
            self._last_heard[peer] = time.monotonic()
            *lines, self._unread[peer] = (self._unread[peer] + data).split(b"\n")
            for line in lines:
                self._receive(peer, json.loads(line))

    def _receive(self, peer: int, message: Mapping[str, Any]) -> None:
        match message["kind"]:
            case "value":
                self._values[peer].put(message)
            case "done":
                self._done.add(peer)
            case "all done":
                self._finished.set()
            case "leaving":
                self._leaving.add(peer)
            case "ending":
                self._leaving.add(peer)
                self._end_all(message["code"], message["text"])

    def _handle_loss(self, peer: int, how: str) -> None:
        self._disconnect(peer)
        if self._ending or peer in self._leaving or self._finished.is_set():
            return
        self._end_all(
            1,
            f"{self.name(peer)} {how}; stopping, because no step is possible without it; "
            "run the same command on all processes again to resume",
        )

    def _end_all(self, code: int, text: str, is_reported: bool = False) -> None:
        """Reports the reason to the other processes and the user, and ends this process."""
        if self._ending:
            return
        self._ending = True
        if text:
            self._send_all({"kind": "ending", "code": code, "text": text})
            if not is_reported:
                _print(f"error: {text}")
        if self.process_id == 0:
            self._wait_for_disconnects()
        _exit(code)

    def _wait_for_disconnects(self) -> None:
        self._ending = True
        deadline = time.monotonic() + _DISCONNECT_SECONDS
        while self._sockets and time.monotonic() < deadline:
            self._read(0.05)

    def _disconnect(self, peer: int) -> None:
        with self._sending[peer]:
            connection = self._sockets.pop(peer)
            self._selector.unregister(connection)
            connection.close()
        del self._last_heard[peer]

    def _send_all(self, message: Mapping[str, Any]) -> None:
        for peer in list(self._sockets):
            self._send(peer, message)

    def _send(self, peer: int, message: Mapping[str, Any]) -> None:
        with self._sending[peer], contextlib.suppress(OSError):  # A closed connection is noticed when reading.
            if connection := self._sockets.get(peer):
                write(connection, message)

    def _value(self, peer: int, what: str, seconds: float) -> Any:
        try:
            message = self._values[peer].get(timeout=max(seconds, 0.0))
        except queue.Empty:
            raise TimeoutError(f"{self.name(peer)} did not reach '{what}'") from None
        if message["what"] != what:
            raise RuntimeError(f"{self.name(peer)} is at '{message['what']}', this process at '{what}'")
        return message["value"]


def write(connection: socket.socket, message: Mapping[str, Any]) -> None:
    """Sends one message."""
    connection.sendall(json.dumps(message).encode() + b"\n")


def read_line(connection: socket.socket) -> dict[str, Any]:
    """Receives one message, without reading further bytes.

    Raises:
      EOFError: the other end has closed the connection.
      ValueError: the data are not a message.
    """
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            raise EOFError
        line += byte
        if len(line) > 1 << 20:
            raise ValueError("not a message")
    return json.loads(line)


def _print(line: str) -> None:
    # Bypass sys.stderr: the main thread may hold its lock in a blocked write.
    os.write(2, line.encode() + b"\n")


def _exit(code: int) -> NoReturn:
    """Ends the process at once, without the shutdown barrier of JAX. Flushes stdout and stderr if possible."""

    def flush() -> None:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()

    flusher = threading.Thread(target=flush, daemon=True)
    flusher.start()
    flusher.join(1.0)
    os._exit(code)

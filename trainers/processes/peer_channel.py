"""Links between the processes of one run: what they tell each other, and who has gone.

Every process but process 0 holds one TCP connection to process 0, from the roll call until the end of the run. Messages
are lines of JSON.

A process that dies is noticed at once, as its system closes its connection; one that is frozen or cut off is noticed
when it has given no sign of life for `silence` seconds. JAX alone would not tell which process it was, and would take
longer: it watches heartbeats only, and ends in an abort that no Python code can catch.
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

# How long process 0 waits for the others to be gone, when all end. It holds JAX's service: were it to go first, JAX
# would abort the others.
_LAST_SECONDS = 5.0
# How long a process whose own work failed waits to hear that another one's end was the cause.
_CAUSE_SECONDS = 0.5


class Links:
    """One process' links to the others: to all of them for process 0, to process 0 for each other one.

    A thread reads them from the beginning. When another process ends before all have come to `finish`, it ends this
    one, with a line on stderr and `os._exit`: the main thread may be waiting in a collective that never returns.
    """

    def __init__(self, process_id: int, hosts: Sequence[str], sockets: Mapping[int, socket.socket], silence: float):
        """Takes over the connections.

        Args:
          process_id: which process this is.
          hosts: the host of each process.
          sockets: the connections, by the process at the other end.
          silence: seconds without a sign of life after which a process counts as dead.
        """
        self.process_id, self.hosts, self.processes, self.silence = process_id, tuple(hosts), len(hosts), silence
        self._interval = min(2.0, silence / 5)
        self._sockets = dict(sockets)
        self._sending = {peer: threading.Lock() for peer in sockets}
        self._heard = dict.fromkeys(sockets, time.monotonic())
        self._unread = dict.fromkeys(sockets, b"")
        self._values: dict[int, queue.SimpleQueue] = {peer: queue.SimpleQueue() for peer in sockets}
        self._parting: set[int] = set()  # Those of whom no more is expected.
        self._done: set[int] = set()
        self._finished = threading.Event()
        self._wish: collections.deque[tuple[int, str]] = collections.deque()
        self._ending = False
        self._selector = selectors.DefaultSelector()
        for peer, connection in self._sockets.items():
            connection.settimeout(silence)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(connection, selectors.EVENT_READ, peer)
        self._thread = threading.Thread(target=self._run, name="links", daemon=True)
        if self._sockets:
            self._thread.start()
        else:
            self._finished.set()

    def name(self, process: int) -> str:
        """The process as messages name it: `process 1 of 2 (HOST)`."""
        return f"process {process} of {self.processes} ({self.hosts[process]})"

    def gather(self, what: str, value: Any, timeout: float) -> list[Any]:
        """Collects a value of every process at process 0; the others only hand theirs in.

        Args:
          what: what this is about, the same on all; for messages.
          value: anything JSON knows.
          timeout: seconds to wait for the others.

        Returns:
          All values in the order of processes, at process 0; nothing elsewhere.

        Raises:
          TimeoutError: some process did not come.
          RuntimeError: the processes are not at the same place of the program.
        """
        if self.process_id:
            self._send(0, {"kind": "value", "what": what, "value": value})
            return []
        value = json.loads(json.dumps(value))  # As the others' come.
        deadline = time.monotonic() + timeout
        return [value, *(self._value(peer, what, deadline - time.monotonic()) for peer in range(1, self.processes))]

    def spread(self, what: str, value: Any, timeout: float) -> Any:
        """Process 0's value, at every process.

        Args:
          what: what this is about, the same on all; for messages.
          value: anything JSON knows; only process 0's counts.
          timeout: seconds to wait for process 0.

        Raises:
          TimeoutError: process 0 did not come.
          RuntimeError: the processes are not at the same place of the program.
        """
        if self.process_id:
            return self._value(0, what, timeout)
        self._send_all({"kind": "value", "what": what, "value": value})
        return value

    def finish(self) -> None:
        """The end of a run that went well: returns once every process has come here. Then nobody watches any more."""
        if not self._sockets:
            return
        if self.process_id == 0:
            self._done.add(0)
        else:
            self._send(0, {"kind": "done"})
        self._finished.wait()
        self._thread.join()

    def part(self, code: int) -> NoReturn:
        """Ends this process with an error that all the others end with as well, each by itself."""
        if self.process_id:
            self._send(0, {"kind": "parting"})
            _exit(code)
        self._parting.update(self._sockets)
        self._end(code, "")

    def fail(self, code: int, reason: str, shown: str) -> NoReturn:
        """Ends this process, whose work failed, and the others with it.

        Args:
          code: exit code, for all.
          reason: what went wrong, in one line; the others print it with the name of this process.
          shown: what this process prints.
        """
        # A collective fails where another process has died. Then the thread tells which, and that is all to tell.
        time.sleep(_CAUSE_SECONDS)
        if not self._ending:
            print(shown, file=sys.stderr, flush=True)
        self._end(code, reason)

    # ---- The thread's part.

    def _end(self, code: int, reason: str) -> NoReturn:
        """Leaves the ending to the thread, which alone decides what the reason was."""
        self._wish.append((code, reason))
        self._thread.join()
        _exit(code)

    def _run(self) -> None:
        try:
            next_sign, before = 0.0, time.monotonic()
            while self._sockets and not self._finished.is_set():
                self._read(min(self._interval, 0.1))
                now = time.monotonic()
                if now - before > self.silence / 2:
                    # This process was frozen itself, and maybe the others with it: all get their time anew.
                    self._heard = dict.fromkeys(self._heard, now)
                before = now
                if now >= next_sign:
                    self._send_all({"kind": "sign"})
                    next_sign = now + self._interval
                for peer, heard in list(self._heard.items()):
                    if now - heard > self.silence:
                        self._lost(peer, f"gave no sign of life for {self.silence:g} s")
                if self._wish:
                    code, reason = self._wish.popleft()
                    self._end_all(code, reason and f"{self.name(self.process_id)}: {reason}", told=True)
                if self._done == set(range(self.processes)):
                    self._send_all({"kind": "all done"})
                    self._wait_until_alone()
                    self._finished.set()
            for peer in list(self._sockets):
                self._forget(peer)
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
                self._lost(peer, "has died")
                continue
            self._heard[peer] = time.monotonic()
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
            case "parting":
                self._parting.add(peer)
            case "ending":
                self._parting.add(peer)
                self._end_all(message["code"], message["text"])

    def _lost(self, peer: int, how: str) -> None:
        self._forget(peer)
        if self._ending or peer in self._parting or self._finished.is_set():
            return
        self._end_all(
            1,
            f"{self.name(peer)} {how}; ending, as no step can be taken without it; "
            "run the same command on all again to go on",
        )

    def _end_all(self, code: int, text: str, told: bool = False) -> None:
        """Tells the others and the user why all end, and ends."""
        if self._ending:
            return
        self._ending = True
        if text:
            self._send_all({"kind": "ending", "code": code, "text": text})
            if not told:
                _print(f"error: {text}")
        if self.process_id == 0:
            self._wait_until_alone()
        _exit(code)

    def _wait_until_alone(self) -> None:
        self._ending = True
        deadline = time.monotonic() + _LAST_SECONDS
        while self._sockets and time.monotonic() < deadline:
            self._read(0.05)

    def _forget(self, peer: int) -> None:
        with self._sending[peer]:
            connection = self._sockets.pop(peer)
            self._selector.unregister(connection)
            connection.close()
        del self._heard[peer]

    def _send_all(self, message: Mapping[str, Any]) -> None:
        for peer in list(self._sockets):
            self._send(peer, message)

    def _send(self, peer: int, message: Mapping[str, Any]) -> None:
        with self._sending[peer], contextlib.suppress(OSError):  # That it is gone is noticed when reading.
            if connection := self._sockets.get(peer):
                write(connection, message)

    def _value(self, peer: int, what: str, seconds: float) -> Any:
        try:
            message = self._values[peer].get(timeout=max(seconds, 0.0))
        except queue.Empty:
            raise TimeoutError(f"{self.name(peer)} has not come to '{what}'") from None
        if message["what"] != what:
            raise RuntimeError(f"{self.name(peer)} is at '{message['what']}', this one at '{what}'")
        return message["value"]


def write(connection: socket.socket, message: Mapping[str, Any]) -> None:
    """Sends one message."""
    connection.sendall(json.dumps(message).encode() + b"\n")


def read_line(connection: socket.socket) -> dict[str, Any]:
    """Receives one message, and not a byte more.

    Raises:
      EOFError: the other end has closed the connection.
      ValueError: what has come is no message.
    """
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            raise EOFError
        line += byte
        if len(line) > 1 << 20:
            raise ValueError("no message of ours")
    return json.loads(line)


def _print(line: str) -> None:
    # Not through sys.stderr: the main thread may hold its lock, in a write that never ends.
    os.write(2, line.encode() + b"\n")


def _exit(code: int) -> NoReturn:
    """Ends the process at once, without JAX's wait for the others; what was printed comes out first, if it can."""

    def flush() -> None:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()

    flusher = threading.Thread(target=flush, daemon=True)
    flusher.start()
    flusher.join(1.0)
    os._exit(code)

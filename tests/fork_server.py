"""Python commands without the wait for imports: a process that has imported the libraries forks for each of them.

A command spends 3 to 5 seconds in importing JAX and its like. `ForkServer.popen` takes a command line of Python's and
gives a `subprocess.Popen` as for any other: a process with a pid of its own, a child of the caller, with the streams,
folder, environment and signals that an interpreter starts with. The module or script is executed afresh in it, and so
are the commands' modules below `experiments`. What differs is that the other modules are imported already, that they
are not taken apart at the end, and that all processes of one server share a hash seed: a test in which any of it
matters starts an interpreter of its own.

    python fork_server.py DESCRIPTOR PACKAGE...

is the server: it reads requests from the socket `DESCRIPTOR`, having imported the libraries and every module of the
packages. It starts no thread and no JAX backend, so that a fork of it is sound.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import pathlib
import pkgutil
import random
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Mapping, Sequence
from typing import Any

# Imported by functions of ours, or by libraries when they are first used.
LIBRARIES = (
    "array_record.python.array_record_module", "cleanlab.filter", "flax.nnx", "grain", "jax.experimental.topologies",
    "jax.export", "matplotlib.backends.backend_agg", "matplotlib.pyplot", "ml_collections.config_flags", "optax",
    "optuna", "optuna.visualization.matplotlib", "orbax.checkpoint", "pandas", "PIL.PngImagePlugin", "psutil",
    "rich.live", "rich.progress", "rich.table", "safetensors.numpy", "scipy.optimize", "scipy.stats",
    "sklearn.ensemble", "sklearn.linear_model", "sklearn.metrics", "sklearn.model_selection", "sklearn.neighbors",
    "sqlalchemy.dialects.sqlite", "tensorboardX", "tensorflow_datasets", "tokenizers",
)  # fmt: skip

# Variables that are read when Python starts or a library is imported: with other values a fork would be a false one.
READ_AT_START = ("PYTHON", "JAX_", "LANG", "LC_", "MPL", "OMP_", "OPENBLAS_", "TF_", "XDG_", "HOME", "LD_")

_PR_SET_CHILD_SUBREAPER = 36


class ForkServer:
    """Starts Python processes by forking.

    Args:
      environment: the variables with which the server is started; those of a process may differ in what is not
        `READ_AT_START`.
      folder: of the checkout.
      packages: of ours that are imported beforehand, with all their modules.
    """

    def __init__(self, environment: Mapping[str, str], folder: os.PathLike, packages: Sequence[str]):
        self._environment, self._folder, self._packages = dict(environment), folder, packages
        self._lock = threading.Lock()
        self._socket = self._server = None

    def can_start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Whether a fork is as good as the process that the command line and the environment ask for."""
        ours = sys.platform == "linux" and arguments[0] == sys.executable
        return ours and _read_at_start(environment) == _read_at_start(self._environment)

    def popen(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen:
        """As `subprocess.Popen`, given `cwd` and `env`; `arguments` are `[sys.executable, "-m" | "-c" | FILE, ...]`."""
        return _Forked(self, list(arguments), **options)

    def fork(self, request: dict[str, Any], streams: Sequence[int]) -> int:
        """Has a process forked with stdin, stdout and stderr, and adopts it; returns its pid."""
        with self._lock:
            if self._server is None:
                self._start()
            # The process that forks it has ended before the answer comes: an orphan goes to its nearest reaper.
            libc = ctypes.CDLL(None)
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self._socket, [json.dumps(request).encode()], list(streams))
                answer = self._socket.recv(64)
            finally:
                libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        if not answer:
            raise RuntimeError("the fork server ended; it says why on stderr")
        return int(answer)

    def close(self) -> None:
        """Ends the server, if it was started; processes that run go on."""
        if self._server is not None:
            self._socket.close()
            self._server.wait()

    def _start(self) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._server = subprocess.Popen(
                [sys.executable, __file__, str(other.fileno()), *self._packages],
                stdin=subprocess.DEVNULL, pass_fds=[other.fileno()], cwd=self._folder, env=self._environment,
            )  # fmt: skip


class _Forked(subprocess.Popen):
    """A process that the server forks; everything but its start is as `subprocess` does it."""

    def __init__(self, server: ForkServer, arguments: list[str], **options):
        self._fork_server = server
        super().__init__(arguments, **options)

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        # Pairs of pipe ends, this process's and the other's, -1 where there is no pipe; the last are of no concern.
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = rest[3:9]
        streams = [own if end == -1 else end for own, end in enumerate((p2cread, c2pwrite, errwrite))]
        try:
            variables = {name: os.fspath(value) for name, value in env.items()}
            request = {"arguments": [os.fspath(word) for word in args[1:]], "cwd": os.fspath(cwd), "env": variables}
            self.pid = self._fork_server.fork(request, streams)
            self._child_created = True
        finally:
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}


def main() -> None:
    """Serves; returns only in the processes that are forked, as the command that they are to run."""
    descriptor, *packages = sys.argv[1:]
    requests = socket.socket(fileno=int(descriptor))
    # Whoever waits for the commands decides when this ends, not a Ctrl-C that is meant for all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path.pop(0)
    sys.path.insert(0, "")
    _import_all(packages)
    # What is here by now stays: the collectors of the processes need not look through it.
    gc.collect()
    gc.freeze()
    request = _serve(requests)
    code = 0
    try:
        _become(request)
    except SystemExit as end:
        code = end.code or 0
    _end(code)


def _import_all(packages: Sequence[str]) -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    for package in packages:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            # A module of ours may need a library that is not installed; its command says so.
            with contextlib.suppress(ImportError):
                if not module.name.endswith("__main__"):
                    importlib.import_module(module.name)
    from jax._src import xla_bridge

    if xla_bridge._backends or threading.active_count() > 1:
        raise RuntimeError("importing has started a JAX backend or a thread; a fork would not be sound")


def _serve(requests: socket.socket) -> dict[str, Any]:
    """Forks for each request; returns the request in the process that is to serve it."""
    while True:
        data, streams, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        if not data:
            os._exit(0)
        pid = _fork_orphan()
        if pid == 0:
            requests.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            for stream in streams:
                os.close(stream)
            return json.loads(data)
        for stream in streams:
            os.close(stream)
        requests.send(str(pid).encode())


def _fork_orphan() -> int:
    """Forks a process whose parent ends; returns its pid, and 0 in the process once it has been adopted."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        parent, pid = os.getpid(), os.fork()
        if pid > 0:
            os.write(writing, str(pid).encode())
            os._exit(0)
        while os.getppid() == parent:
            time.sleep(0.0002)
    else:
        os.waitpid(between, 0)
    os.close(writing)
    pid = int(os.read(reading, 64)) if between else 0
    os.close(reading)
    return pid


def _become(request: dict[str, Any]) -> None:
    """Makes this process what an interpreter is after its start, and runs its command line."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed()
    sys.modules["numpy"].random.seed()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, _reopen(number, getattr(sys, name)))
        setattr(sys, f"__{name}__", getattr(sys, name))
    kind, *words = request["arguments"]
    if kind == "-m":
        sys.argv, sys.path[0] = ["-m", *words[1:]], str(pathlib.Path.cwd())
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv, sys.path[0] = ["-c", *words[1:]], ""
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(words[0], "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.argv, sys.path[0] = [kind, *words], str(pathlib.Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


def _end(code: int | str) -> None:
    """Ends as an interpreter does, but for taking modules apart, which is most of the time a short command takes."""
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(code)
    if not isinstance(code, int):
        sys.exit(code)
    os._exit(code & 0xFF)


def _reopen(number: int, old: io.TextIOWrapper) -> io.TextIOWrapper:
    """A stream of the descriptor as Python opens it at its start, with the settings of the server's own."""
    file = open(number, "wb" if number else "rb", 0 if old.write_through else -1, closefd=False)  # noqa: SIM115
    lines = old.line_buffering or file.isatty()
    return io.TextIOWrapper(file, old.encoding, old.errors, line_buffering=lines, write_through=old.write_through)


if __name__ == "__main__":
    main()

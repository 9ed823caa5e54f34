"""A process of the fork server is what an interpreter would be, or else a real one is started."""

import json
import os
import signal
import subprocess
import sys

import pytest

# What a program can see of how it was started. Descriptors are those below 10, as a loaded library may hold others.
PROBE = """
import json, os, resource, signal, sys
streams = [(s.encoding, s.errors, s.line_buffering, s.isatty()) for s in (sys.stdin, sys.stdout, sys.stderr)]
handlers = [str(signal.getsignal(n)).split(" at ")[0] for n in (2, 10, 13, 15, 17, 25)]
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "name": __name__, "main": vars(sys.modules["__main__"]) is globals(),
    "file": globals().get("__file__"), "folder": os.getcwd(), "environment": dict(os.environ), "streams": streams,
    "handlers": handlers, "flags": str(sys.flags), "group": os.getpgrp(), "session": os.getsid(0),
    "parent": os.getppid(),
    "descriptors": [n for n in range(10) if os.path.exists(f"/proc/self/fd/{n}")], "optimised": sys.flags.optimize,
    "limit": resource.getrlimit(resource.RLIMIT_NOFILE), "priority": os.nice(0), "umask": os.umask(0),
    "read": sys.stdin.read(),
}))
sys.stderr.write("to stderr")
sys.exit(7)
"""


@pytest.fixture(params=["-c", "-m", "file"])
def probe(request, tmp_path):
    """The command line of the probe, and the folder in which to start it."""
    (tmp_path / "probe_module.py").write_text(PROBE)
    words = {"-c": ["-c", PROBE], "-m": ["-m", "probe_module"], "file": [str(tmp_path / "probe_module.py")]}
    return [sys.executable, *words[request.param], "--one=1", "two"], tmp_path


def test_a_forked_process_sees_what_an_interpreter_sees(command, probe):
    arguments, folder = probe
    environment = command.environment | {"PLUMBLINE_CACHE": "/nowhere", "SOMETHING": "new"}
    options = {"cwd": folder, "env": environment, "text": True} | dict.fromkeys(("stdin", "stdout", "stderr"), -1)
    seen = []
    for start in (subprocess.Popen, command.popen):
        process = start(arguments, **options)
        output, errors = process.communicate("some input", timeout=60)
        assert (process.returncode, errors) == (7, "to stderr")
        seen.append(json.loads(output))
    assert seen[1] == seen[0]
    assert seen[1]["parent"] == os.getpid()


def test_a_forked_process_can_be_waited_for_and_killed(command):
    process = command.popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"], stdout=-1)
    assert process.stdout.readline() == b"up\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.01)
    assert process.poll() is None
    os.kill(process.pid, 0)
    process.kill()
    assert process.wait(timeout=10) == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    process.stdout.close()


def test_an_exception_is_a_traceback_and_exit_code_1(command):
    finished = command.run([sys.executable, "-c", "import atexit; atexit.register(print, 'bye'); 1 / 0"])
    assert (finished.returncode, finished.stdout) == (1, "bye\n")
    assert finished.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_jax_reads_its_flags_in_the_forked_process(command):
    environment = command.environment | {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    words = [sys.executable, "-c", "import jax; print(jax.device_count())"]
    assert [command.run(words, env=env).stdout for env in (environment, None)] == ["3\n", "1\n"]


def test_forked_processes_draw_other_random_numbers(command):
    words = [sys.executable, "-c", "import random, numpy; print(random.random(), numpy.random.rand())"]
    draws = [number for _ in range(2) for number in command.run(words).stdout.split()]
    assert len(set(draws)) == 4


@pytest.mark.parametrize("variable", ["PYTHONHASHSEED", "JAX_ENABLE_X64", "LC_ALL"])
def test_what_is_read_at_the_start_of_python_gets_an_interpreter_of_its_own(command, variable):
    words = [sys.executable, "-c", "import sys; print('jax' in sys.modules)"]
    value = "C.UTF-8" if variable == "LC_ALL" else "1"
    assert command.run(words).stdout == "True\n"
    assert command.run(words, env=command.environment | {variable: value}).stdout == "False\n"

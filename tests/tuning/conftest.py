import contextlib
import json
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile

import pytest

from tests.conftest import free_port

WORKER = pathlib.Path(__file__).with_name("study_worker.py")


@pytest.fixture
def start_worker(command):
    """Starts a worker of a study in a process of its own; whatever still runs at the end is killed."""
    started = []

    def start(**given):
        given = {"sampler": "tpe", "batch": 4, "seconds": 0.05, "trials": 24, "worker": "one", **given}
        words = [
            sys.executable,
            str(WORKER),
            json.dumps({k: str(v) if k == "workdir" else v for k, v in given.items()}),
        ]
        process = command.popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(OSError):
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def postgres():
    """URL of a real PostgreSQL server with an empty database."""
    programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs:
        pytest.skip("no PostgreSQL server in /usr/lib/postgresql; Debian's package is 'postgresql'")
    # The server refuses to run as root, and whoever runs it has to reach its files.
    user = "postgres" if os.geteuid() == 0 else None
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plumbline-postgres-"))
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)

    def run(program, *words):
        subprocess.run([programs[-1] / program, *words], user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    port = free_port()
    run("initdb", "-D", folder / "data", "-A", "trust", "-U", "plumbline", "--no-sync")
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    run("pg_ctl", "-D", folder / "data", "-o", settings, "-l", folder / "log", "-w", "start")
    try:
        yield f"postgresql+pg8000://plumbline@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)

"""The launchers themselves: `make test-launchers` sets their environment up. What is not installed is skipped."""

import os
import pathlib
import subprocess

import pytest

CHECKOUT = pathlib.Path(__file__).parent.parent.parent
TOOLS = CHECKOUT / ".venv-launchers" / "bin"


def pytest_collection_modifyitems(items):
    for item in items:
        if pathlib.Path(__file__).parent in item.path.parents:
            item.add_marker("launchers")


@pytest.fixture
def tool(tmp_path):
    """Runs a program of the launchers' environment with a temporary home; skips the test if it is not installed."""

    def run(name, *words, code=0):
        if not (TOOLS / name).exists():
            pytest.skip(f"no {name} in .venv-launchers; `make test-launchers` puts it there")
        quiet = {"SKYPILOT_DISABLE_USAGE_COLLECTION": "1", "TELEMETRY_ENABLED": "false"}
        finished = subprocess.run(
            [TOOLS / name, *words],
            cwd=CHECKOUT,
            env={**os.environ, **quiet, "HOME": str(tmp_path), "PATH": f"{TOOLS}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == code, finished.stdout + finished.stderr
        return finished.stdout

    return run

"""The flags by which processes find each other, as users type them."""

import sys

import pytest

COMMAND = """
from experiments import command, distribution
distribution.define_flags("auto")
def main(words):
    with distribution.join_processes():
        print("alone")
command.run(main)
"""


@pytest.fixture
def run(command):
    return lambda *words: command.run([sys.executable, "-c", COMMAND, *words])


@pytest.mark.parametrize("words", [(), ("--distributed=off",), ("--distributed=auto",)])
def test_without_peers_a_command_runs_alone(run, words):
    finished = run(*words)
    assert (finished.returncode, finished.stdout) == (0, "alone\n"), finished.stderr


@pytest.mark.parametrize("dash", ["-", "_"])
def test_flags_are_taken_with_dashes_and_underscores(run, dash):
    words = ["--distributed=explicit", "--coordinator=127.0.0.1:9", "--processes=2", f"--process{dash}id=1"]
    finished = run(*words, f"--initialization{dash}timeout=0.5")
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: --coordinator: 127.0.0.1:9: process 0 was not reached within 0.5 s (")
    assert len(finished.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--distributed=explicit"], "error: --coordinator: missing; --distributed=explicit needs --coordinator, "),
        (["--process-id=1"], "error: --process-id: has no effect with --distributed=auto; "),
    ],
)
def test_wrong_flags_end_in_one_line(run, words, line):
    finished = run(*words)
    assert finished.returncode == 2
    assert finished.stderr.startswith(line)
    assert len(finished.stderr.splitlines()) == 1

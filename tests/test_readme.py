"""Every command in the README, word for word, on a bare copy of the checkout."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

CHECKOUT = pathlib.Path(__file__).parent.parent
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)

# The suite cannot run itself.
SKIPPED = ("make test",)


@pytest.mark.slow
def test_the_commands_of_the_readme_run_on_a_bare_copy(tmp_path):
    """In a copy of the checkout without `.venv`: the first command sets it up."""
    copy = tmp_path / "plumbline"
    ignored = shutil.ignore_patterns(".git", ".venv*", "runs", ".tests-cache", "__pycache__", "*.egg-info", ".*_cache")
    shutil.copytree(CHECKOUT, copy, ignore=ignored)
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "VIRTUAL_ENV")}
    for block in BLOCKS:
        script = "\n".join(line for line in block.splitlines() if line not in SKIPPED)
        finished = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        if "make train" in block:
            accuracy = re.search(r"accuracy\s*│[^│]*│[^│]*│\s*([0-9.]+)", finished.stdout)
            assert float(accuracy[1]) >= 0.96, finished.stdout
            assert finished.stdout.count('"probabilities"') == 3
    _check_the_install(copy / ".venv" / "bin", tmp_path / "elsewhere", environment)


def _check_the_install(programs, folder, environment):
    """The installed command and modules work beside folders named as packages of the checkout."""
    for name in ("data", "models"):
        (folder / name).mkdir(parents=True)
    environment = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    training = ("--config=configs/digits_linear.py", "--config.train.duration=2 steps", "--workdir=run")
    for words in (
        [programs / "plumbline", "train", *training],
        [programs / "python", "-m", "experiments.evaluate", "--workdir=run"],
        [programs / "python", "-c", "import plumbline; plumbline.open_run('run')"],
    ):
        finished = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stdout + finished.stderr


def test_the_readme_has_its_commands():
    assert len(BLOCKS) == 6
    assert {"make train", "make test"} <= set(README.splitlines())


def test_the_readme_lists_every_config():
    for path in (CHECKOUT / "configs").glob("*.py"):
        if path.stem not in ("__init__", "arguments", "defaults", "fields"):
            assert f"{path.name}" in README, path.name


def test_no_dependency_file_names_a_host():
    for name in ("pyproject.toml", "constraints.txt"):
        assert "://" not in (CHECKOUT / name).read_text(encoding="utf-8")

"""Every command in the README, word for word: the first ones on a bare copy of the checkout."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess

import pytest

CHECKOUT = pathlib.Path(__file__).parent.parent
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
FIRST, *OTHERS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_the_first_commands_set_up_a_bare_copy_and_train(tmp_path):
    """In a copy of the checkout without `.venv`; the suite cannot run itself."""
    copy = _copy_checkout(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "VIRTUAL_ENV")}
    for line in FIRST.splitlines():
        if line != "make test":
            finished = _run(["bash", "-euo", "pipefail", "-c", line], copy, environment)
            accuracy = re.search(r"accuracy\s*│[^│]*│[^│]*│\s*([0-9.]+)", finished.stdout)
            assert float(accuracy[1]) >= 0.96, finished.stdout
            assert finished.stdout.count('"probabilities"') == 3
    _check_the_install(copy / ".venv" / "bin", tmp_path / "elsewhere", environment)


@pytest.mark.slow
@pytest.mark.parametrize("block", OTHERS, ids=lambda block: shlex.split(block, comments=True)[3])
def test_the_commands_of_a_block_run(command, tmp_path, block):
    """In a copy of the checkout, with the environment of the suite."""
    copy = _copy_checkout(tmp_path)
    activation, *lines = (
        words for line in block.replace("\\\n", "").splitlines() if (words := shlex.split(line, comments=True))
    )
    assert activation == ["source", ".venv/bin/activate"]
    for program, name, *words in lines:
        assert program == "plumbline"
        command(name, *words, cwd=copy)


def _copy_checkout(folder):
    ignored = shutil.ignore_patterns(".git", ".venv*", "runs", ".tests-cache", "__pycache__", "*.egg-info", ".*_cache")
    return shutil.copytree(CHECKOUT, folder / "plumbline", ignore=ignored)


def _run(words, folder, environment):
    finished = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished


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
        _run(words, folder, environment)


def test_the_readme_has_its_commands():
    assert FIRST.splitlines() == ["make train", "make test"]
    assert len(OTHERS) == 5


def test_the_readme_lists_every_config():
    for path in (CHECKOUT / "configs").glob("*.py"):
        if path.stem not in ("__init__", "arguments", "defaults", "fields"):
            assert f"{path.name}" in README, path.name


def test_no_dependency_file_names_a_host():
    for name in ("pyproject.toml", "constraints.txt"):
        assert "://" not in (CHECKOUT / name).read_text(encoding="utf-8")

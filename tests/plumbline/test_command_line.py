"""The `plumbline` command, in folders whose `data/` and `models/` belong to the user."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib

import pytest

from models.registry import REGISTRY
from plumbline.public import completion
from plumbline.public.commands import COMMANDS
from plumbline.rooms import ROOMS
from trainers.step import schedules
from trainers.step.objectives import OBJECTIVES
from trainers.step.optimizers import OPTIMIZERS
from tuning.samplers import SAMPLERS

CHECKOUT = pathlib.Path(__file__).parent.parent.parent
ENTRY = "from plumbline.public.cli import main; main()"
# Where an editable install puts the checkout: behind what Python puts first.
ENVIRONMENT = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(CHECKOUT)}


@pytest.fixture
def script(tmp_path):
    """The script that an install makes, in a folder of its own."""
    path = tmp_path / "bin" / "plumbline"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\n{ENTRY}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def run(script):
    def run(*words, cwd, code=0):
        finished = subprocess.run(
            list(map(str, words)), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert finished.returncode == code, finished.stderr
        return finished

    return run


@pytest.fixture
def folder(tmp_path):
    """A researcher's folder: data and models without `__init__.py`."""
    for name in ("data", "models", "configs"):
        (tmp_path / "work" / name).mkdir(parents=True)
    (tmp_path / "work" / "data" / "readings.csv").write_text("a,b\n1,2\n")
    return tmp_path / "work"


def test_the_help_names_every_command_and_imports_nothing_heavy(run, script, tmp_path):
    printed = run(script, "--help", cwd=tmp_path).stdout
    assert all(re.search(rf"^  plumbline {name} +\w", printed, re.MULTILINE) for name in COMMANDS)
    code = "import sys; sys.argv[1:] = ['--help']\nfrom plumbline.public.cli import main\ntry: main()\nfinally: "
    names = run(sys.executable, "-c", f"{code}print(*sys.modules)", cwd=tmp_path).stdout.splitlines()[-1].split()
    assert "plumbline.public.cli" in names
    assert not {"jax", "numpy", "absl", "ml_collections", "experiments"} & set(names)


def test_every_command_is_in_the_map():
    modules = {
        path.stem for path in (CHECKOUT / "experiments").glob("*.py") if 'if __name__ == "__main__"' in path.read_text()
    }
    assert set(COMMANDS) == modules


def test_the_script_and_the_import_of_an_install_are_declared():
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    assert settings["project"]["scripts"] == {"plumbline": "plumbline.public.cli:main"}
    # With this the editable install is a path, and folders without `__init__.py` do not hide packages.
    assert settings["tool"]["setuptools"]["package-dir"] == {"": "."}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], ["unknown command 'trian'", "did you mean 'train'"]),
        (["--workdir=x"], ["--workdir=x", "plumbline train --workdir=x"]),
        (["--completion=tcsh"], ["tcsh", "bash", "zsh", "fish"]),
        (["--completoin=bash"], ["--completoin"]),
    ],
)
def test_a_wrong_first_word_is_one_line(words, said, run, script, tmp_path):
    lines = run(script, *words, cwd=tmp_path, code=2).stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert all(part in lines[0] for part in said)


def test_training_works_beside_folders_named_data_and_models(run, script, folder):
    quick = ("--config=configs/digits_linear.py", "--config.train.duration=2 steps", "--config.train.tensorboard=False")
    trained = run(script, "train", *quick, "--workdir=run", cwd=folder)
    assert "done: run" in trained.stdout
    (start,) = json.loads((folder / "run" / "provenance.json").read_text())["starts"]
    assert start["command"] == shlex.join(["plumbline", "train", *quick, "--workdir=run"])
    assert start["folder"] == str(folder)
    again = run(sys.executable, "-m", "experiments.train", *quick, "--workdir=run", cwd=folder)
    assert "is done already" in again.stderr
    code = "import plumbline; print(plumbline.open_run('run').config.data.source)"
    assert run(sys.executable, "-c", code, cwd=folder).stdout == "digits\n"


@pytest.mark.parametrize("name", ["data/__init__.py", "models.py"])
def test_a_package_of_the_same_name_is_one_line_of_error(name, run, script, folder):
    if name == "models.py":
        (folder / "models").rmdir()
    (folder / name).write_text("raise RuntimeError('not ours')\n")
    owner, room = folder / name.removesuffix("/__init__.py"), name[:-3].split("/")[0]
    expected = f"error: '{owner}' hides Plumbline's package '{room}'; rename it"
    lines = run(sys.executable, "-m", "experiments.train", cwd=folder, code=2).stderr.splitlines()
    assert [line[: len(expected)] for line in lines] == [expected]
    # The script does not look into the current folder.
    assert "error: --workdir: missing" in run(script, "evaluate", cwd=folder, code=2).stderr
    code = "import plumbline\ntry: plumbline.open_run\nexcept plumbline.UserError as error: print(error)"
    assert run(sys.executable, "-c", code, cwd=folder).stdout.startswith(expected.removeprefix("error: "))


def test_flags_and_exit_codes_are_those_of_the_module(run, script, tmp_path):
    for words, code in ((["evaluate", "--help"], 0), (["evaluate", "--wrokdir=x"], 2), (["learning-curve"], 2)):
        name = words[0].replace("-", "_")
        module = run(sys.executable, "-m", f"experiments.{name}", *words[1:], cwd=CHECKOUT, code=code)
        command = run(script, *words, cwd=tmp_path, code=code)
        assert (command.stdout, command.stderr) == (module.stdout, module.stderr)


def test_a_config_of_the_current_folder_goes_before_one_of_the_checkout(run, script, folder):
    (folder / "configs" / "digits_mlp.py").write_text("def get_config():\n    raise ValueError('of this folder')\n")
    words = ("train", "--config=configs/digits_mlp.py", "--workdir=run")
    assert "of this folder" in run(script, *words, cwd=folder, code=2).stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("plumbline cross", ["crossvalidate"]),
        ("plumbline predict --ch", ["--checkpoint="]),
        ("plumbline predict --checkpoint=", ["--checkpoint=best", "--checkpoint=last"]),
        ("plumbline train --distributed=o", ["--distributed=off"]),
        ("plumbline train --overw", ["--overwrite"]),
        ("plumbline train --config.optimizer.weight_decay", None),
        ("plumbline train --config.optim", ["--config.optimizer."]),
        ("plumbline evaluate --config.optim", []),
        ("plumbline trian --", []),
        ("plumbline train --config.model.name=p", ["--config.model.name=pretrained"]),
        (
            "plumbline train --config.optimizer.name=adam",
            ["--config.optimizer.name=adam", "--config.optimizer.name=adamw"],
        ),
        ("plumbline train --config.train.tensorboard=", [f"--config.train.tensorboard={b}" for b in ("True", "False")]),
        ("plumbline train --config.prune.scope=g", ["--config.prune.scope=global"]),
        ("plumbline evaluate --split=t", ["--split=train", "--split=test"]),
        ("plumbline sweep --sampler=t", ["--sampler=tpe"]),
    ],
)
def test_completion(line, expected):
    if expected is None:
        expected = ["--config.optimizer.weight_decay=", "--config.optimizer.weight_decay_rules="]
    assert completion.candidates(line) == expected


def test_names_that_are_completed_are_those_of_their_tables():
    tables = {
        "config.model.name": [*REGISTRY, "pretrained"],
        "config.objective.name": [*OBJECTIVES, "auto"],
        "config.optimizer.name": OPTIMIZERS,
        "config.schedule.name": schedules.NAMES,
    }
    for name, known in tables.items():
        found = completion.candidates(f"plumbline train --{name}=")
        assert found == [f"--{name}={each}" for each in known]
    found = completion.candidates("plumbline sweep --sampler=")
    assert found == [f"--sampler={name}" for name in SAMPLERS]


def test_completion_of_values_imports_nothing_heavy(run, tmp_path):
    lines = ("train --config.model.name=", "train --config.prune.scope=", "sweep --sampler=", "evaluate --split=")
    code = "import sys\nfrom plumbline.public import completion\n"
    code += "".join(f"assert completion.candidates('plumbline {line}')\n" for line in lines)
    names = run(sys.executable, "-c", f"{code}print(*sys.modules)", cwd=tmp_path).stdout.split()
    assert not {"jax", "numpy", "optuna"} & set(names)


def test_configs_and_paths_are_completed_from_any_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = completion.candidates("plumbline train --config=configs/digits_l")
    assert found == ["--config=configs/digits_linear.py"]
    (folder / "configs" / "mine.py").touch()
    assert completion.candidates("plumbline train --config=configs/m") == ["--config=configs/mine.py"]
    assert completion.candidates("plumbline predict da") == ["data/"]
    assert completion.candidates("plumbline predict --output=data/r") == ["--output=data/readings.csv"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_valid(shell, run, script, tmp_path):
    text = run(script, f"--completion={shell}", cwd=tmp_path).stdout
    assert f"plumbline --complete={shell}" in text


def test_bash_completes(script, tmp_path):
    text = f"""
    export PATH={script.parent}:$PATH
    source <(plumbline --completion=bash)
    COMP_LINE='plumbline predict --checkpoint=b' COMP_POINT=32
    _plumbline
    echo "${{COMPREPLY[@]}}"
    """
    finished = subprocess.run(["bash", "-c", text], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert finished.stdout == "best\n"


def test_rooms_are_those_that_are_installed():
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert [f"{room}*" for room in ("plumbline", *ROOMS)] == settings["packages"]["find"]["include"]

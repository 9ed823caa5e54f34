import json
import signal
import subprocess

import pytest

MLP = "--config=configs/digits_mlp.py"
QUICK = ("--config.train.duration=30 steps", "--config.train.evaluate_every=30 steps", "--seeds=2")


def ablate(command, workdir, *words, **options):
    command("ablate", MLP, *QUICK, f"--workdir={workdir}", *words, **options)
    return {path.name: path.read_bytes() for path in workdir.iterdir() if path.suffix in (".md", ".png", ".svg")}


def table_of(text):
    return [line for line in text.decode().splitlines() if line.startswith("|")]


@pytest.fixture(scope="module")
def ablated(command, tmp_path_factory):
    """A finished directory, and its tables and plots."""
    workdir = tmp_path_factory.mktemp("ablated") / "table"
    return workdir, ablate(command, workdir)


@pytest.mark.slow
def test_variants_are_compared_in_a_table_that_the_command_makes_again_to_the_last_digit(command, ablated, tmp_path):
    (workdir, first), second = ablated, ablate(command, tmp_path / "again")
    table = table_of(first["ablations.md"])
    assert table == table_of(second["ablations.md"])
    assert first["ablations.png"] == second["ablations.png"]
    assert first["ablations.svg"] == second["ablations.svg"]
    assert first["ablations.png"].startswith(b"\x89PNG")
    assert [line.split(" | ")[0] for line in table[2:]] == [
        "| baseline", "| no weight decay", "| constant schedule", "| dropout", "| one hidden layer",
    ]  # fmt: skip
    assert f"plumbline ablate {MLP}" in first["ablations.md"].decode()
    figures = json.loads((workdir / "ablations.json").read_text())
    assert figures["seeds"] == [0, 1]
    values = figures["variants"][4]["values"]
    assert values == {str(seed): figures["trainings"][f"one hidden layer, seed {seed}"]["accuracy"] for seed in (0, 1)}
    # One for another schedule, one for another shape, and one for all others.
    assert figures["population"]["programs"] == 3


@pytest.mark.slow
def test_a_variant_is_trained_as_a_single_run_is(command, ablated, tmp_path):
    words = (MLP, *QUICK[:2], "--config.seed=0", "--config.optimizer.weight_decay=0.0", "--config.train.tensorboard=0")
    command("train", *words, f"--workdir={tmp_path / 'run'}")
    alone = json.loads((tmp_path / "run/summary.json").read_text())["metrics"]["test"]
    together = json.loads((ablated[0] / "ablations.json").read_text())["trainings"]["no weight decay, seed 0"]
    assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    assert together["accuracy"] == pytest.approx(alone["accuracy"], abs=1e-6)


@pytest.mark.slow
def test_a_stopped_command_goes_on_and_ends_with_the_same_table(command, tmp_path):
    words = ("--config.train.duration=3000 steps", "--config.train.evaluate_every=500 steps", "--seeds=2")
    command("ablate", MLP, *words, f"--workdir={tmp_path / 'whole'}")
    stopped = command.start(
        "ablate", MLP, *words, f"--workdir={tmp_path / 'stopped'}", stderr=subprocess.PIPE, text=True
    )
    assert "trainings done" in stopped.stderr.readline()
    stopped.send_signal(signal.SIGTERM)
    assert "preempted: SIGTERM; run the same command again" in stopped.communicate(timeout=60)[1]
    assert stopped.returncode == 42
    command("ablate", MLP, *words, f"--workdir={tmp_path / 'stopped'}")
    tables = [table_of((tmp_path / name / "ablations.md").read_bytes()) for name in ("whole", "stopped")]
    assert tables[0] == tables[1]


def test_another_config_in_the_directory_is_told_and_overwritten_when_asked(command, fails, tmp_path):
    ablate(command, tmp_path / "a")
    changed = (MLP, *QUICK, "--config.optimizer.learning_rate=1e-2", f"--workdir={tmp_path / 'a'}")
    assert "another config" in fails("ablate", *changed)
    assert "(seeds is 2 there, 1 here)" in fails("ablate", MLP, *QUICK[:2], "--seeds=1", f"--workdir={tmp_path / 'a'}")
    command("ablate", *changed, "--overwrite")


RECIPE = """
from configs import digits_mlp

def get_config():
    return digits_mlp.get_config()
"""


@pytest.mark.parametrize(
    ("ablations", "message"),
    [
        ("", "has no function ablations(); add one that returns a dict from a variant's name to its overrides"),
        ("ablations = {'baseline': {}}", "has no function ablations()"),
        ("def ablations(): return {'a': {}}", "ablations(): no 'baseline' among its variants"),
        ("def ablations(): return {'baseline': {}}", "ablations(): nothing but the baseline"),
        (
            "def ablations(): return {'baseline': {}, 'a': {'optimizer.lerning_rate': 1.0}}",
            "ablations(): 'a': overrides: unknown name 'optimizer.lerning_rate'; did you mean 'optimizer.",
        ),
        (
            "def ablations(): return {'baseline': {}, 'a': {'train.batch_size': 'x'}}",
            "'a': train.batch_size: 'x' is no",
        ),
        (
            "def ablations(): return {'baseline': {}, 'a': {'seed': 3}}",
            "'a': seed: cannot differ between",
        ),
    ],
)
def test_a_config_without_ablations_that_make_sense_is_told(fails, tmp_path, ablations, message):
    path = tmp_path / "mine.py"
    path.write_text(f"{RECIPE}\n{ablations}\n")
    assert message in fails("ablate", f"--config={path}", f"--workdir={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([MLP, "--seeds=0"], "--seeds: 0 given; it must be at least 1"),
        ([MLP, "--config.model.name=mpl"], "model.name: unknown name 'mpl'"),
        (["--config=configs/digits_linear.py"], "'configs/digits_linear.py' has no function ablations()"),
        ([], "--config: missing"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(fails, tmp_path, words, message):
    assert message in fails("ablate", *words, f"--workdir={tmp_path / 'out'}")

"""Training and populations from Python."""

import concurrent.futures
import json

import ml_collections
import numpy as np
import pytest

import plumbline
from plumbline import UserError

SHORT = {"train.duration": "12 steps", "train.tensorboard": False}


def test_a_config_comes_from_a_file_with_its_argument_and_overrides(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from configs import defaults\ndef get_config(name='digits'):\n"
        "    config = defaults.get_config()\n    config.data.source = name\n    return config\n"
    )
    config = plumbline.load_config(f"{tmp_path / 'mine.py'}:sklearn:iris", {"optimizer.learning_rate": 1})
    assert config.data.source == "sklearn:iris"
    assert config.optimizer.learning_rate == 1.0
    assert config.is_locked
    changed = plumbline.load_config(config, {"seed": 3})
    assert (changed.seed, config.seed) == (3, 0)
    assert plumbline.load_config(tmp_path / "mine.py").data.source == "digits"


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("configs/nothing.py", {}, "no Python file 'configs/nothing.py'"),
        ("README.md", {}, "no Python file 'README.md'"),
        ("configs/__init__.py", {}, r"has no function get_config\(\)"),
        ("configs/digits_mlp.py", {"optimizer.learning_rat": 1.0}, "did you mean 'optimizer.learning_rate'"),
        ("configs/digits_mlp.py", {"train.batch_size": "many"}, "train.batch_size: 'many' is not a whole number"),
        (
            ml_collections.ConfigDict({"data": {"source": "digits"}, "model": "mlp"}),
            {},
            r"^config: lacks 'augment', 'evaluation', 'execution' and \d+ more; begin with configs.defaults.get_config",
        ),
    ],
)
def test_what_is_no_config_is_an_error(config, overrides, message):
    with pytest.raises(UserError, match=message):
        plumbline.load_config(config, overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config.seeds = 3; return config", "{file}:4: unknown field 'seeds'; did you mean 'seed'?"),
        ("config.seed = '3'; return config", "{file}:4: seed: '3' is of type str; the field takes int"),
        ("return (", "{file}:4: no valid Python: '(' was never closed"),
        (
            "config.unlock(); del config.optimizer, config.train.batch_size; return config",
            "{file}: get_config() returned a config that lacks 'optimizer', 'train.batch_size'; begin with "
            "configs.defaults.get_config(), which has every field, and change what differs",
        ),
        ("return 3", "{file}: get_config() returned int; return the config"),
        ("pass", "{file}: get_config() returned None; return the config"),
    ],
)
def test_an_error_of_a_config_file_is_that_of_the_command(fails, tmp_path, text, message):
    file = tmp_path / "mine.py"
    file.write_text(
        f"from configs import defaults\ndef get_config():\n    config = defaults.get_config()\n    {text}\n"
    )
    message = message.format(file=file)
    with pytest.raises(UserError) as raised:
        plumbline.train(file, tmp_path / "run")
    assert str(raised.value) == message
    assert fails("train", f"--config={file}", f"--workdir={tmp_path / 'run'}") == message


def test_a_recipe_without_its_argument_is_an_error():
    with pytest.raises(UserError, match=r"^configs/table.py: path or target missing; write configs/table.py:PATH"):
        plumbline.load_config("configs/table.py")


def in_another_thread(function, *arguments, **named):
    """The result of a function; a thread that is not the main one may install no signal handlers."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments, **named).result()


def test_training_in_any_thread_equals_the_command_and_is_resumed(command, tmp_path):
    words = (f"--config.{name}={value}" for name, value in SHORT.items())
    command("train", "--config=configs/digits_mlp.py", *words, f"--workdir={tmp_path / 'command'}")
    run = in_another_thread(plumbline.train, "configs/digits_mlp.py", tmp_path / "python", overrides=SHORT)
    assert run.status["status"] == "done"
    expected = json.loads((tmp_path / "command" / "summary.json").read_text())["metrics"]
    for split in ("validation", "test"):
        assert run.metrics[split] == pytest.approx(expected[split], rel=1e-5)
    # Done already: the same run.
    again = plumbline.train("configs/digits_mlp.py", tmp_path / "python", overrides=SHORT)
    assert again.metrics == run.metrics
    with pytest.raises(UserError, match="holds a run of another config"):
        plumbline.train("configs/digits_mlp.py", tmp_path / "python", overrides={**SHORT, "seed": 1})


def test_a_population_has_a_row_for_each_variant_and_seed_equal_to_its_run(tmp_path):
    variants = {"plain": {}, "fast": {"optimizer.learning_rate": 1e-2}}
    frame = plumbline.train_population("configs/digits_mlp.py", variants, seeds=[0, 1], overrides=SHORT)
    assert list(zip(frame["variant"], frame["seed"], strict=True)) == [
        ("plain", 0),
        ("plain", 1),
        ("fast", 0),
        ("fast", 1),
    ]
    assert set(frame["status"]) == {"done"}
    assert set(frame["step"]) == {12}
    run = plumbline.train("configs/digits_mlp.py", tmp_path / "run", overrides={**SHORT, **variants["fast"]})
    assert frame.loc["fast, seed 0", "loss"] == pytest.approx(run.metrics["test"]["loss"], rel=1e-4)


def test_members_choose_their_own_rows():
    config = plumbline.load_config("configs/digits_mlp.py", SHORT)
    pool = plumbline.load_pool(config)
    rows = pool.splits["train"]
    held_out = np.flatnonzero(pool.groups == pool.groups[rows[0]])
    member = plumbline.Member(
        name="without one writer", overrides={}, seed=0, train=np.setdiff1d(rows, held_out), held_out=held_out
    )
    frame = plumbline.train_population(config, [member], pool=pool)
    assert list(frame.index) == ["without one writer"]
    assert 0 <= frame["accuracy"].iloc[0] <= 1
    with pytest.raises(UserError, match=r"give pool=plumbline\.load_pool"):
        plumbline.train_population(config, [member])


def test_a_population_of_any_thread_continues_in_its_folder(tmp_path):
    arguments = ("configs/digits_mlp.py", {"plain": {}})
    with pytest.raises(UserError, match="holds no population"):
        plumbline.population_history(tmp_path)
    first = in_another_thread(plumbline.train_population, *arguments, workdir=tmp_path, overrides=SHORT)
    again = plumbline.train_population(*arguments, workdir=tmp_path, overrides=SHORT)
    assert first.equals(again)
    history = plumbline.population_history(tmp_path)
    assert set(history["member"]) == set(first.index)
    assert set(history["split"]) == {"train", "validation"}
    last = history[history["split"] == "train"].iloc[-1]
    assert (last["step"], last["skipped"]) == (12, 0)
    assert last["gradient_norm"] > 0
    with pytest.raises(UserError, match="another config or other data"):
        plumbline.train_population(*arguments, workdir=tmp_path, overrides={**SHORT, "train.batch_size": 32})


def test_fields_that_all_members_share_are_refused():
    with pytest.raises(UserError, match=r"data.source: cannot differ between the trainings"):
        plumbline.train_population("configs/digits_mlp.py", {"other": {"data.source": "x"}})


def test_the_public_names_are_listed_and_others_are_not():
    assert {"open_run", "train", "train_population", "runs", "Member"} <= set(dir(plumbline))
    with pytest.raises(AttributeError, match="no attribute 'open_rum'"):
        _ = plumbline.open_rum
    assert isinstance(plumbline.load_config("configs/digits_mlp.py"), ml_collections.ConfigDict)

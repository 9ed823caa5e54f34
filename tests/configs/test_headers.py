"""Every command in the header of a config, word for word but for what it leaves to the user, and for a few steps."""

import importlib
import pathlib
import re
import shlex

import pytest

from tests.configs.conftest import NAMES
from tests.conftest import CHECKOUT, POEM

# What stands for the words that a header leaves open: the user's data and weights.
WEIGHTS = "tests/references/fixtures"
OPEN = {
    "table": {"PATH": "samples/breast_cancer.csv", "COLUMN": "diagnosis"},
    "image_folder": {"PATH": "samples/digits"},
    "gpt_tinyshakespeare": {"PATH": "poem.txt", "ROMEO:": "Tyger"},
    "transfer_resnet50": {"PATH": "samples/digits", "WEIGHTS": f"{WEIGHTS}/hf_resnet_bottleneck"},
    "transfer_vit_b16": {"PATH": "samples/digits", "WEIGHTS": f"{WEIGHTS}/hf_vit"},
    "transfer_text_minilm": {"PATH": "texts"},
}
# Shorter, and on smaller images; `ablate` has fewer seeds.
SHORT = ("--config.train.duration=8 steps", "--config.train.batch_size=16", "--config.train.log_every=4 steps")
SMALL = {
    "gpt_tinyshakespeare": ("--config.schedule.warmup=",),
    "transfer_resnet50": ("--config.data.image_size=32",),
    "transfer_vit_b16": ("--config.data.image_size=24",),
}
# What these need is not there: the set, or the weights. Their commands go as far as that.
LACKING = {
    "cifar10_resnet18": "data.source: 'tfds:cifar10' is not prepared",
    "imagenet_resnet50": "data.source: 'tfds:imagenet2012' is not prepared",
    "imagenet_vit_s16": "data.source: 'tfds:imagenet2012' is not prepared",
    "transfer_text_minilm": "transfer.source: ",
}


def commands(name):
    """The words of each `plumbline` command of a header; a line that begins with dashes continues the previous one."""
    header = importlib.import_module(f"configs.{name}").__doc__
    joined = re.sub(r"(?<=\S)\n +(?=--)", " ", header)
    found = [shlex.split(line)[1:] for line in joined.splitlines() if line.strip().startswith("plumbline ")]
    for word, meaning in OPEN.get(name, {}).items():
        found = [[re.sub(rf"\b{word}", meaning, given) for given in words] for words in found]
    return found


@pytest.fixture
def folder(command, tmp_path):
    """A folder of the user's, with data in it, from which the recipes can be reached."""
    (tmp_path / "configs").symlink_to(CHECKOUT / "configs")
    (tmp_path / "tests").symlink_to(CHECKOUT / "tests")
    command("samples", tmp_path / "samples")
    (tmp_path / "poem.txt").write_text(POEM * 20)
    for kind, text in (("songs", POEM), ("lists", "one, two, three, four")):
        (tmp_path / "texts" / kind).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "texts" / kind / f"{number}.txt").write_text(text[number:])
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NAMES) - set(LACKING)))
def test_the_commands_of_a_header_run(command, folder, name):
    for program, *words in commands(name):
        if program == "samples":
            continue
        if program == "train":
            words += [*SHORT, *SMALL.get(name, ())]
        if program == "ablate":
            words += [*SHORT, "--seeds=2"]
        command(program, *words, cwd=folder)
        written = [pathlib.Path(word.removeprefix("--workdir=")) for word in words if word.startswith("--workdir=")]
        assert all((folder / path).is_dir() for path in written)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "lacking"), LACKING.items())
def test_the_commands_of_a_header_lack_nothing_but_what_is_not_there(fails, folder, name, lacking):
    for program, *words in commands(name):
        words.append(f"--config.data.tfds_dir={folder / 'none'}")
        if name == "transfer_text_minilm":
            words.append("--config.transfer.source=package:no_such_package/model")
        assert lacking in fails(program, *words, cwd=folder)


def test_headers_have_commands():
    assert {name: len(commands(name)) for name in NAMES if len(commands(name)) != 1} == {
        "gpt_tinyshakespeare": 2, "transfer_digits": 3, "transfer_resnet50": 3, "transfer_text_minilm": 2,
        "transfer_vit_b16": 3,
    }  # fmt: skip

import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import defaults
from data import Features, preprocessing
from tests.configs.conftest import NAMES, PRETRAINED, load
from trainers import settings
from trainers.building import build_program, make_clock
from trainers.step import hyperparameters
from trainers.step.state import num_parameters
from trainers.step.train_step import make_train_step

FOLDER = pathlib.Path(defaults.__file__).parent

# What needs a download, a GPU or a pod is checked by shape: examples, classes, image size and the model's parameters.
BY_SHAPE = {
    "cifar10_resnet18": (50_000, 10, 32, 11_173_962),
    "imagenet_resnet50": (1_281_167, 1000, 224, 25_557_032),
    # ViT-S/16 less its class token, and with fixed positions in place of 197 learned ones.
    "imagenet_vit_s16": (1_281_167, 1000, 224, 22_050_664 - 384 - 197 * 384),
    # Those of 1000 classes, less the head of as many, with one of ten.
    "transfer_resnet50": (5000, 10, 224, 25_557_032 - 2049 * 990),
    "transfer_vit_b16": (5000, 10, 224, 86_567_656 - 769 * 990),
}


def fields(config, prefix=""):
    for name, value in config.items():
        if hasattr(value, "items"):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name


@pytest.mark.parametrize("name", NAMES)
def test_every_config_has_the_fields_of_the_defaults_and_passes_the_checks(name):
    config = load(name)
    assert set(fields(config)) == set(fields(defaults.get_config()))
    assert config.is_locked
    settings.check(config)
    make_clock(config, 1000)


@pytest.mark.parametrize("name", NAMES)
def test_every_header_gives_the_command(name):
    header = importlib.import_module(f"configs.{name}").__doc__
    assert f"plumbline train --config=configs/{name}.py" in header


def test_every_field_of_the_defaults_has_a_comment_over_it():
    lines = (FOLDER / "defaults.py").read_text(encoding="utf-8").splitlines()
    commented = False
    for line in lines[lines.index("    config = ml_collections.ConfigDict()") + 1 :]:
        if re.match(r"    [a-z.]+ = ", line) and "ConfigDict()" not in line:
            assert commented, f"no comment over: {line}"
        # A comment serves the lines up to the next blank one or the next comment.
        commented = line.strip().startswith("#") or (commented and bool(line.strip()))


def by_shape(name):
    """Config, program, init and its arguments for examples of the recipe's shape."""
    config = load(name)
    config.model.name = PRETRAINED.get(name, config.model.name)
    num_examples, num_classes, size, _ = BY_SHAPE[name]
    features = Features(
        kind="image",
        shape=(size, size, 3),
        dtype="uint8",
        task="classification",
        class_names=tuple(map(str, range(num_classes))),
    )
    program, init = build_program(config, features)
    fitted = preprocessing.fit(features, np.zeros((1, size, size, 3), np.uint8), np.zeros(1), normalize="imagenet")
    values = hyperparameters.from_config(config, make_clock(config, num_examples))
    return config, program, init, (jnp.uint32(0), values, jax.tree.map(jnp.asarray, fitted))


@pytest.mark.parametrize("name", BY_SHAPE)
def test_large_recipes_build_and_trace_a_step_at_their_full_batch(name):
    config, program, init, arguments = by_shape(name)
    _, _, size, parameters = BY_SHAPE[name]
    state = jax.eval_shape(init, *arguments)
    assert num_parameters(state.params) == parameters
    batch = {
        "inputs": jax.ShapeDtypeStruct((config.train.batch_size, size, size, 3), jnp.uint8),
        "labels": jax.ShapeDtypeStruct((config.train.batch_size,), jnp.int32),
        "weight": jax.ShapeDtypeStruct((config.train.batch_size,), jnp.float32),
    }
    new_state, metrics = jax.eval_shape(make_train_step(program), state, batch)
    assert jax.tree.leaves(new_state) == jax.tree.leaves(state)
    assert metrics["loss"][0].dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_SHAPE)
def test_large_recipes_take_a_real_step(name):
    _, program, init, arguments = by_shape(name)
    _, num_classes, size, _ = BY_SHAPE[name]
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    batch = {"inputs": jnp.asarray(images), "labels": jnp.arange(4, dtype=jnp.int32), "weight": jnp.ones(4)}
    state, metrics = jax.jit(make_train_step(program))(jax.jit(init)(*arguments), batch)
    assert int(state.step) == 1
    assert metrics["skipped"][0] == 0
    # Nothing learnt yet: the loss is about that of guessing.
    assert abs(float(metrics["loss"][0]) / 4 - np.log(num_classes)) < 1.5


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("table", "", "path or target missing"),
        ("table", "people.csv,targt=x", "unknown option 'targt'"),
        ("image_folder", "", "no folder"),
        ("gpt_tinyshakespeare", "", "no text"),
        ("gpt_tinyshakespeare", ",tokenizer=gpt2", "no text"),
        ("transfer_text_minilm", "", "no folder"),
        ("transfer_text_minilm", "texts,variant=ful", "unknown variant 'ful'"),
        ("transfer_resnet50", "pictures", "path or source missing"),
        ("transfer_vit_b16", ",source=x", "path or source missing"),
    ],
)
def test_a_missing_argument_says_what_to_write(name, argument, message):
    with pytest.raises(ValueError, match=rf"configs/{name}.py: {message}.*; write configs/{name}.py:PATH"):
        importlib.import_module(f"configs.{name}").get_config(argument)


def test_digits_are_pretrained_or_fine_tuned_by_argument():
    get_config = importlib.import_module("configs.transfer_digits").get_config
    assert get_config().data.classes == ("0", "1", "2", "3", "4")
    few = get_config("10,source=elsewhere")
    assert (few.data.examples_per_class, few.transfer.source) == (10, "elsewhere")
    assert few.data.classes == ("5", "6", "7", "8", "9")
    assert get_config("5").transfer.source == "runs/digits_0_to_4"
    for wrong in ("pretrian", "0", "5,sorce=x", "5,source="):
        with pytest.raises(
            ValueError, match=f"'{wrong}' is not possible; write configs/transfer_digits.py:pretrain or"
        ):
            get_config(wrong)


@pytest.mark.parametrize(
    ("argument", "source", "target"),
    [
        ("a.csv, target = x y , group=g", "csv:a.csv", "x y"),
        ("'a,b=c.csv',target='x, y'", "csv:a,b=c.csv", "x, y"),
        ("my file, 1.csv,target=x", "csv:my file, 1.csv", "x"),
        ("k=1/A.PQ,target=x", "parquet:k=1/A.PQ", "x"),
        ("O'Brien.csv,group='a,b',target=\"it's\"", "csv:O'Brien.csv", "it's"),
        ("a.csv", "csv:a.csv", ""),
        ("target=x", "csv:", "x"),
    ],
)
def test_a_table_may_have_any_path_and_column(argument, source, target):
    found = importlib.import_module("configs.table").get_config(argument).data
    assert (found.source, found.target) == (source, target)


@pytest.mark.parametrize(
    ("name", "argument", "source", "field", "value"),
    [
        ("image_folder", "'dir with, blank'", "folder:dir with, blank", "data.image_size", 32),
        ("image_folder", "a, b=c", "folder:a, b=c", "data.image_size", 32),
        ("transfer_resnet50", "'a, b',source='w, x'", "folder:a, b", "transfer.source", "w, x"),
        ("transfer_vit_b16", "a, b,source=w", "folder:a, b", "transfer.source", "w"),
        ("transfer_text_minilm", '"a, b",variant=frozen', "folder:a, b", "transfer.freeze", (r"^(?!head/)",)),
        ("gpt_tinyshakespeare", "'a, b.txt',tokenizer='t, u'", "text:a, b.txt", "data.tokenizer", "t, u"),
        ("gpt_tinyshakespeare", "a.txt", "text:a.txt", "data.tokenizer", "characters"),
        ("transfer_digits", "5,source='runs/a, b'", "digits", "transfer.source", "runs/a, b"),
    ],
)
def test_paths_may_be_quoted_in_every_recipe(name, argument, source, field, value):
    config = importlib.import_module(f"configs.{name}").get_config(argument)
    found = settings.fields(config)
    assert (found["data.source"], found[field]) == (source, value)


def test_a_path_that_exists_may_look_like_an_option(tmp_path):
    path = tmp_path / "a, b=1.csv"
    path.touch()
    get_config = importlib.import_module("configs.table").get_config
    assert get_config(f"{path},target=x").data.source == f"csv:{path}"
    with pytest.raises(ValueError, match="unknown option 'b'"):
        get_config("a, b=1.csv,target=x")


def test_a_table_takes_its_options():
    config = importlib.import_module("configs.table").get_config("a.parquet,target=x,group=g,weight=w,task=regression")
    data = config.data
    assert (data.source, data.target, data.group, data.weight, data.task) == (
        "parquet:a.parquet", "x", "g", "w", "regression",
    )  # fmt: skip


def test_a_text_takes_another_tokenizer():
    get = importlib.import_module("configs.gpt_tinyshakespeare").get_config
    assert (get("a,b.txt").data.source, get("a,b.txt").data.tokenizer) == ("text:a,b.txt", "characters")
    data = get("a,b.txt,tokenizer=gpt2/tokenizer.json").data
    assert (data.source, data.tokenizer) == ("text:a,b.txt", "gpt2/tokenizer.json")

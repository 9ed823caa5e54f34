"""A run opened from Python: what it reads, predicts and lets JAX transform."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from PIL import Image
from sklearn.datasets import load_diabetes

import data
import plumbline
from plumbline import UserError
from plumbline.public.wording import name_arguments
from tests.conftest import QUICK, jit_quickly
from trainers.run.inference import FinishedRun

SHORT = {"train.duration": "4 steps", "train.tensorboard": False}


@pytest.fixture(scope="module")
def run(quick_run):
    return plumbline.open_run(quick_run)


@pytest.fixture(scope="module")
def test_split(run):
    return data.load(run.config.data, seed=run.config.seed).splits["test"]


@pytest.fixture(scope="module")
def convolutional(command, tmp_path_factory):
    """A ResNet of a few steps, with batch norms."""
    fields = {**SHORT, "model.resnet.depth": 10, "model.resnet.width": 4, "execution.mode": "loop"}
    words = (f"--config.{name}={value}" for name, value in fields.items())
    workdir = tmp_path_factory.mktemp("convolutional") / "run"
    command("train", "--config=configs/digits_resnet.py", *words, f"--workdir={workdir}")
    return plumbline.open_run(workdir)


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    return plumbline.train("configs/diabetes_mlp.py", tmp_path_factory.mktemp("table") / "run", overrides=SHORT)


def test_predictions_of_arrays_are_those_of_the_split(run, test_split, quick_run):
    inputs = test_split.read(np.arange(len(test_split)))
    expected = list(FinishedRun(quick_run).predict_split("test"))
    frame = run.predict(inputs)
    assert list(frame["label"]) == [line["label"] for line in expected]
    probabilities = [[line["probabilities"][name] for name in run.features.class_names] for line in expected]
    named = [f"probability {name}" for name in run.features.class_names]
    np.testing.assert_allclose(frame[named], probabilities, atol=1e-6)
    logits = run.logits(inputs)
    np.testing.assert_allclose(jax.nn.softmax(logits, axis=-1), probabilities, atol=1e-6)
    # What the head reads, through the head.
    head = run.params["head"]
    np.testing.assert_allclose(run.embed(inputs) @ head["kernel"] + head["bias"][None, :], logits, atol=1e-4)


@pytest.mark.parametrize("count", [1, 63, 64, 65])
def test_any_number_of_examples_can_be_asked_for(count, run, test_split):
    inputs = test_split.read(np.arange(65))
    np.testing.assert_allclose(run.logits(inputs[:count]), run.logits(inputs)[:count], atol=1e-6)


def test_integers_and_floats_of_pixels_are_converted(run, test_split):
    images = test_split.read(np.arange(3))
    for kind in (np.int64, np.int32, np.uint16):
        converted = run.inputs(images.astype(kind))
        assert converted.dtype == np.uint8
        np.testing.assert_array_equal(converted, images)
    np.testing.assert_allclose(run.logits(images.astype(np.float64)), run.logits(images), atol=1e-5)
    # A black image has no scale.
    assert np.isfinite(run.logits(np.zeros((1, 8, 8, 1), np.float32))).all()


def test_messages_name_arguments_in_place_of_flags(run, quick_run, tmp_path):
    for checkpoint in ("latest", "bset"):
        with pytest.raises(UserError, match=rf"^checkpoint: unknown name '{checkpoint}'.*known: best, last$"):
            plumbline.open_run(quick_run, checkpoint=checkpoint)
        with pytest.raises(UserError, match=r"^--checkpoint: unknown name"):
            FinishedRun(quick_run, checkpoint=checkpoint)
    with pytest.raises(UserError, match=r"^split: unknown name 'tset'; did you mean 'test'"):
        run.evaluate("tset")
    with pytest.raises(UserError, match=r"^workdir: .*no config.json"):
        plumbline.open_run(tmp_path)
    with pytest.raises(UserError, match=r"^sort: unknown name 'accurcy'"):
        plumbline.runs(quick_run.parent, sort="accurcy")
    with pytest.raises(UserError, match=r"give another workdir, or overwrite=True to delete that run$"):
        plumbline.train("configs/digits_mlp.py", quick_run)


def test_flags_in_a_quoted_command_stay():
    message = "--workdir: 'a--workdir' is done; give --overwrite, or run `plumbline train --workdir=a --overwrite`"
    expected = "workdir: 'a--workdir' is done; give overwrite=True, or run `plumbline train --workdir=a --overwrite`"
    assert name_arguments(message) == expected


def test_files_are_read_as_in_training(run, test_split, command, tmp_path):
    command("samples", tmp_path / "samples")
    folder = tmp_path / "samples" / "digits" / "test" / "7"
    frame = run.predict(folder)
    files = sorted(folder.iterdir())
    assert list(frame["input"]) == list(map(str, files))
    np.testing.assert_array_equal(run.inputs(files), run.inputs(str(folder)))
    rows = [int(file.stem) for file in files]
    positions = np.flatnonzero(np.isin(test_split.rows, rows))
    np.testing.assert_array_equal(run.inputs(folder), test_split.read(positions))


def test_a_frame_is_read_as_its_file_and_keeps_its_index(regression, tmp_path):
    frame = load_diabetes(as_frame=True).frame.iloc[[7, 3, 400]]
    predicted = regression.predict(frame)
    assert list(predicted.index) == [7, 3, 400]
    assert list(predicted["target"]) == list(frame["target"])
    frame.to_csv(tmp_path / "rows.csv", index=False)
    of_file = regression.predict(tmp_path / "rows.csv")
    np.testing.assert_allclose(predicted["prediction"], of_file["prediction"], rtol=1e-5)
    assert of_file["input"][0] == f"{tmp_path / 'rows.csv'}:2"
    without = regression.predict(frame.drop(columns="target"))
    assert list(without) == ["prediction"]
    # A missing value is filled as in training, not an error.
    gaps = frame.drop(columns="target").astype(object)
    gaps.iloc[0, 2] = None
    assert np.isfinite(regression.predict(gaps)["prediction"]).all()


def test_metrics_history_and_parameters_are_those_of_the_files(run, quick_run):
    assert run.metrics == run.summary["metrics"]
    assert run.evaluate("test")["accuracy"] == pytest.approx(run.metrics["test"]["accuracy"])
    history = run.history
    assert list(history[history["split"] == "train"]["step"]) == [10, 20, 30]
    assert str(history["time"].dt.tz) == "UTC"
    assert sum(leaf.size for leaf in jax.tree.leaves(run.params)) == run.summary["parameters"]
    assert run.step == run.summary["best_step"]
    assert plumbline.open_run(quick_run, checkpoint="last").step == 30
    assert run.provenance["starts"][0]["command"].startswith("plumbline train")
    assert "mlp on digits, done at step 30" in repr(run)


def test_a_run_that_has_not_logged_yet_has_an_empty_history(run, tmp_path):
    for name in ("config.json", "features.json", "fitted.npz"):
        (tmp_path / name).write_bytes((run.path / name).read_bytes())
    begun = plumbline.open_run(tmp_path)
    assert begun.history.empty
    assert begun.metrics == {}
    assert begun.status == {}
    with pytest.raises(UserError, match="has no checkpoint"):
        _ = begun.params


@pytest.mark.parametrize("kind", ["run", pytest.param("convolutional", marks=pytest.mark.slow)])
def test_the_model_may_be_compiled_differentiated_and_vectorised(kind, request, test_split):
    run, images = request.getfixturevalue(kind), test_split.read(np.arange(3))
    labels = test_split.labels[:3]
    pixels = jnp.asarray(images, jnp.float32)

    @jit_quickly
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def loss_and_gradients(params, inputs):
        logits = run.model(params, inputs)
        return -jax.nn.log_softmax(logits)[jnp.arange(3), labels].mean()

    logits = run.logits(images)
    each = jit_quickly(jax.vmap(lambda image: run.model(run.params, image[None])[0]))(images)
    np.testing.assert_allclose(each, logits, atol=1e-5)
    value, gradients = loss_and_gradients(run.params, pixels)
    expected = -jax.nn.log_softmax(logits)[np.arange(3), labels].mean()
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    # Gradients in both arguments, against differences along a direction.
    arguments = (run.params, pixels)
    keys = iter(jax.random.split(jax.random.key(0), 1000))
    directions = jax.tree.map(lambda leaf: jax.random.normal(next(keys), leaf.shape), arguments)
    for place, size in ((0, 1e-3), (1, 0.1)):
        ends = []
        for distance in (size, -size):
            moved = jax.tree.map(functools.partial(_move, distance), arguments[place], directions[place])
            ends.append(loss_and_gradients(*arguments[:place], moved, *arguments[place + 1 :])[0])
        products = jax.tree.map(jnp.vdot, gradients[place], directions[place])
        slope = (float(ends[0]) - float(ends[1])) / (2 * size)
        assert float(sum(jax.tree.leaves(products))) == pytest.approx(slope, rel=0.05)
    # Nothing was drawn or written.
    np.testing.assert_array_equal(run.logits(images), logits)


def _move(distance, leaf, direction):
    return leaf + distance * direction


def test_parameters_may_be_stacked(run, test_split):
    images = test_split.read(np.arange(3))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * 0]), run.params)
    outputs = jax.vmap(run.model, in_axes=(0, None))(stacked, images)
    np.testing.assert_allclose(outputs[0], run.logits(images), atol=1e-5)
    np.testing.assert_array_equal(outputs[1], 0)
    np.testing.assert_allclose(run.model(run.params, images), run.logits(images), atol=1e-5)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (np.zeros((2, 8, 8), np.uint8), r"shape \(2, 8, 8\) given; the run reads \(n, 8, 8, 1\)"),
        (np.zeros((0, 8, 8, 1), np.uint8), r"n at least 1"),
        (np.full((2, 8, 8, 1), 256), r"integers from 256 to 256 given, but the run reads uint8; give 0 to 255"),
        (np.full((2, 8, 8, 1), -1), r"integers from -1 to -1 given"),
        (np.zeros((2, 8, 8, 1), bool), r"array of bool given, but the run reads uint8; convert it with astype"),
        (
            np.full((2, 8, 8, 1), 0.5),
            r"largest value is 0.5, but the run reads pixels from 0 to 255; multiply",
        ),
        (np.full((2, 8, 8, 1), -1.0), r"largest value is -1, but the run reads pixels"),
        (pandas.DataFrame({"a": [1]}), r"DataFrame given, but the model was trained on images"),
        (pandas.DataFrame({"a": []}), r"the DataFrame has no rows"),
        ([], r"give an array, a pandas DataFrame, or one or several paths"),
        ([1, 2], r"give an array, a pandas DataFrame, or one or several paths"),
        (5, r"^inputs: int given; give an array, a pandas DataFrame, or one or several paths"),
        (None, r"^inputs: NoneType given; give an array"),
        (Image.new("L", (8, 8)), r"^inputs: Image given; give an array"),
        ("nowhere.png", r"no such file or folder 'nowhere.png'"),
    ],
)
def test_what_is_no_input_is_a_one_line_error(examples, message, run):
    with pytest.raises(UserError, match=message) as caught:
        run.predict(examples)
    assert "\n" not in str(caught.value)


def test_numbers_that_float32_would_merge_are_predicted_alike_from_every_form(tmp_path):
    seconds = 1_700_000_000 + 7 * np.arange(120)
    frame = pandas.DataFrame({"when": seconds, "until": 2 * seconds})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.csv.gz", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    overrides = {"data.source": f"csv:{tmp_path / 'a.csv'}", "data.target": "until", "train.duration": "60 steps"}
    run = plumbline.train("configs/diabetes_mlp.py", tmp_path / "run", overrides={**SHORT, **overrides})
    assert run.features.columns[0].offset in seconds
    assert run.features.target_offset in 2 * seconds
    inputs = run.inputs(frame)
    np.testing.assert_array_equal(inputs[:, 0] + np.float64(run.features.columns[0].offset), seconds)
    predicted = run.predict(frame)["prediction"]
    values = frame[["when"]].to_numpy()
    for examples in (
        inputs,
        values,
        values.astype(float),
        *(tmp_path / f"a.{end}" for end in ("csv", "csv.gz", "parquet")),
    ):
        np.testing.assert_array_equal(run.predict(examples)["prediction"], predicted)
    # Two seconds, not two of the thousands of a float32.
    assert np.abs(predicted - 2 * seconds).max() < 20_000
    lines = list(FinishedRun(tmp_path / "run").predict([str(tmp_path / "a.csv")]))
    assert [line["target"] for line in lines] == (2 * seconds).tolist()
    np.testing.assert_allclose([line["prediction"] for line in lines], predicted, rtol=1e-9)


def test_a_frame_that_lacks_a_column_is_an_error(regression):
    with pytest.raises(UserError, match=r"lacks the input column 's6'"):
        regression.predict(load_diabetes(as_frame=True).data.drop(columns="s6"))


def test_texts_of_a_frame_are_predicted(words_tokenizer, tmp_path):
    from configs import defaults

    lines = ["Tyger burning bright", "distant deeps or skies", "hand or eye"] * 8
    reviews = pandas.DataFrame({"text": lines, "mood": ["fire", "sky", "fire"] * 8})
    reviews.to_csv(tmp_path / "texts.csv", index=False)
    config = defaults.get_config()
    config.data.source = f"csv:{tmp_path / 'texts.csv'}"
    config.data.target, config.data.text, config.data.tokenizer = "mood", "text", str(words_tokenizer)
    config.data.text_length, config.model.name = 12, "bert"
    small = {"model.bert.width": 16, "model.bert.depth": 1, "model.bert.heads": 2, "model.bert.mlp_size": 16}
    run = plumbline.train(config, tmp_path / "run", overrides={**small, **SHORT, "train.batch_size": 16})
    frame, files = run.predict(reviews[:3]), run.predict(tmp_path / "texts.csv")
    assert list(frame["target"]) == ["fire", "sky", "fire"]
    pandas.testing.assert_frame_equal(frame, files.drop(columns="input")[:3])
    with pytest.raises(UserError, match=r"lacks the text column 'text'"):
        run.predict(reviews[["mood"]])


def test_fields_that_were_added_after_the_run_have_their_defaults(command, fails, quick_run, tmp_path):
    workdir = tmp_path / "earlier"
    shutil.copytree(quick_run, workdir)
    config = json.loads((workdir / "config.json").read_text())
    del config["prune"], config["optimizer"]["momentum"], config["train"]["max_skipped"]
    (workdir / "config.json").write_text(json.dumps(config))
    run = plumbline.open_run(workdir)
    assert run.config == plumbline.open_run(quick_run).config
    assert plumbline.runs(tmp_path)["status"].tolist() == ["done"]
    tables = [command("evaluate", f"--workdir={path}", "--split=test").stdout for path in (quick_run, workdir)]
    assert tables[0].splitlines()[1:] == tables[1].splitlines()[1:]
    assert "is done already" in command("train", *QUICK, f"--workdir={workdir}").stderr
    line = fails("train", *QUICK, "--config.optimizer.momentum=0.5", f"--workdir={workdir}")
    assert "another config (optimizer.momentum is 0.9 there, 0.5 here)" in line

import collections
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

import data
from configs import defaults
from data import Features, tokenizer
from data.batches import evaluation_batches
from data.features import PADDING_TOKEN
from plumbline import UserError
from tests.conftest import POEM, jit_quickly
from trainers.building import build_program, make_clock
from trainers.devices.mesh import data_mesh
from trainers.devices.sharding import state_shardings
from trainers.run.evaluation import make_evaluate
from trainers.step import hyperparameters, objectives
from trainers.step.train_step import make_train_step

LENGTH = 12


@pytest.fixture
def features(words_tokenizer):
    chosen = tokenizer.read(str(words_tokenizer))
    return Features(
        kind="text",
        shape=(LENGTH,),
        dtype="int32",
        task="language",
        tokenizer=chosen.content,
        vocabulary=chosen.vocabulary,
    )


def measured(objective, batches, outputs):
    """Metrics of batches (inputs, labels, weight), of which `outputs` makes logits."""
    batches = (map(jnp.asarray, batch) for batch in batches)
    totals = [objective.totals(outputs(inputs), labels, weight, None, {}) for inputs, labels, weight in batches]
    summed = jax.tree.map(lambda *leaves: np.sum(np.asarray(leaves, np.float64), axis=0), *totals)
    return objective.metrics(summed, {})


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 4])
def test_metrics_of_tokens_equal_scikit_learn(features, parts):
    random = np.random.default_rng(0)
    labels = random.integers(0, features.vocabulary, (20, LENGTH)).astype(np.int32)
    labels[random.uniform(size=labels.shape) < 0.4] = PADDING_TOKEN
    labels[7] = PADDING_TOKEN
    weight = random.uniform(0, 2, 20).astype(np.float32)
    outputs = random.normal(0, 2, (20, LENGTH, features.vocabulary)).astype(np.float32)
    objective = objectives.build("auto", features, calibration_bins=15)
    cut = [np.array_split(array, parts) for array in (outputs, labels, weight)]
    got = measured(objective, zip(*cut, strict=True), jnp.asarray)

    asked = labels != PADDING_TOKEN
    each = np.broadcast_to(weight[:, None], labels.shape)[asked]
    probabilities = np.asarray(jax.nn.softmax(outputs), np.float64)[asked]
    probabilities /= probabilities.sum(-1, keepdims=True)
    known = np.arange(features.vocabulary)
    loss = sklearn_metrics.log_loss(labels[asked], probabilities, sample_weight=each, labels=known)
    assert got["loss"] == pytest.approx(loss, rel=1e-5)
    assert got["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    truth = sklearn_metrics.accuracy_score(labels[asked], outputs[asked].argmax(-1), sample_weight=each)
    assert got["accuracy"] == pytest.approx(truth, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_perplexity_of_a_bigram_model_is_that_of_its_counts(make_text_config, batch_size):
    dataset = data.load(make_text_config("gpt").data, seed=0)
    chosen = tokenizer.Tokenizer(dataset.features.tokenizer)
    test = POEM_TEXT[-round(0.2 * len(POEM_TEXT)) :]
    counts = np.ones((chosen.vocabulary, chosen.vocabulary))
    np.add.at(counts, tuple(np.lib.stride_tricks.sliding_window_view(chosen.tokens(POEM_TEXT), 2).T), 1)
    table = np.log(counts / counts.sum(1, keepdims=True))

    bigrams = collections.Counter(itertools.pairwise(test))
    number = {character: int(chosen.tokens(character)[0]) for character in set(test)}
    nats = -sum(count * table[number[first], number[second]] for (first, second), count in bigrams.items())
    expected = math.exp(nats / (len(test) - 1))

    objective = objectives.build("next_token", dataset.features, calibration_bins=15)
    batches = evaluation_batches(dataset.splits["test"], batch_size=batch_size)
    found = ((batch["inputs"], batch["labels"], batch["weight"]) for batch in batches)
    got = measured(objective, found, lambda inputs: jnp.asarray(table, jnp.float32)[inputs])
    assert got["perplexity"] == pytest.approx(expected, rel=1e-5)


def test_a_loss_too_large_for_its_exponential_has_an_infinite_perplexity(features):
    objective = objectives.build("next_token", features, calibration_bins=15)
    totals = {"loss": (np.float64(9000), np.float64(3)), "accuracy": (np.float64(0), np.float64(3))}
    assert objective.metrics(totals, {}) == {"loss": 3000.0, "perplexity": math.inf, "accuracy": 0.0}


@pytest.mark.slow
def test_of_the_tokens_15_percent_are_asked_for_and_most_of_those_are_hidden(features):
    objective = objectives.build("masked_token", features, calibration_bins=15)
    random = np.random.default_rng(0)
    inputs = random.integers(5, features.vocabulary, (4000, LENGTH)).astype(np.int32)
    inputs[:, -3:] = PADDING_TOKEN
    keys = jax.random.split(jax.random.key(0), 4000)
    shown, labels = map(np.asarray, objective.corrupt(keys, jnp.asarray(inputs), jnp.zeros_like(inputs)))
    asked = labels != PADDING_TOKEN
    np.testing.assert_array_equal(labels[asked], inputs[asked])
    np.testing.assert_array_equal(shown[~asked], inputs[~asked])
    assert not asked[:, -3:].any()

    def close(found, total, share):  # Five deviations of a binomial.
        return abs(found - share * total) < 5 * math.sqrt(total * share * (1 - share))

    there, number = 4000 * (LENGTH - 3), int(asked.sum())
    assert close(number, there, 0.15)
    assert close(int((shown[asked] == 4).sum()), number, 0.8 + 0.1 / features.vocabulary)
    assert close(int((shown[asked] == inputs[asked]).sum()), number, 0.1 + 0.1 / features.vocabulary)
    assert shown.max() < features.vocabulary
    assert set(shown[asked & (shown != inputs) & (shown != 4)].tolist()) >= {0, 1, 2, 3}


def test_what_is_shown_of_an_example_goes_by_its_key_alone(features):
    objective = objectives.build("masked_token", features, calibration_bins=15)
    inputs = jnp.arange(6 * LENGTH, dtype=jnp.int32).reshape(6, LENGTH) % features.vocabulary
    keys = jax.random.split(jax.random.key(1), 6)
    together, _ = objective.corrupt(keys, inputs, inputs)
    for number in range(6):
        one, _ = objective.corrupt(keys[number : number + 1], inputs[number : number + 1], inputs[number : number + 1])
        np.testing.assert_array_equal(one[0], together[number])


def test_a_tokenizer_without_a_mask_token_is_an_error():
    chosen = tokenizer.make_character_tokenizer([POEM])
    features = Features(
        kind="text", shape=(8,), dtype="int32", task="language", tokenizer=chosen.content, vocabulary=chosen.vocabulary
    )
    with pytest.raises(UserError, match=r"objective.name: 'masked_token' needs a tokenizer with a token \[MASK\] or"):
        objectives.build("masked_token", features, calibration_bins=15)


POEM_TEXT = POEM * 8


@pytest.fixture
def make_text_config(tmp_path, words_tokenizer):
    """The config of a small model on a poem: "gpt" by its characters, "bert" by words of which some are masked."""

    def make(name, **fields):
        (tmp_path / "poem.txt").write_text(POEM_TEXT)
        config = defaults.get_config()
        sizes = {"width": 16, "depth": 1, "heads": 2, "mlp_size": 32}
        config.update_from_flattened_dict(
            {
                "data.source": f"text:{tmp_path / 'poem.txt'}",
                "data.tokenizer": "characters" if name == "gpt" else str(words_tokenizer),
                "data.text_length": LENGTH,
                "data.cache_dir": str(tmp_path / "cache"),
                "objective.name": "auto" if name == "gpt" else "masked_token",
                "model.name": name,
                **{f"model.{name}.{field}": size for field, size in sizes.items()},
                "train.batch_size": 16,
                "train.duration": "50 steps",
                **{field.replace("__", "."): value for field, value in fields.items()},
            }
        )
        return config

    return make


class Training:
    """Program, first state and batches of a config on its own data."""

    def __init__(self, config):
        self.config, self.dataset = config, data.load(config.data, seed=0)
        self.program, init = build_program(config, self.dataset.features)
        train = self.dataset.splits["train"]
        values = hyperparameters.from_config(config, make_clock(config, len(train)))
        self.state = jit_quickly(init)(jnp.uint32(0), values, {})

    def batch(self, step):
        batches = data.batches.TrainBatches(
            self.dataset.splits["train"], batch_size=self.config.train.batch_size, seed=0
        )
        return jax.tree.map(jnp.asarray, batches.read(step))

    def evaluate(self, devices, batch_size):
        mesh = data_mesh(jax.devices()[:devices])
        shardings = state_shardings(self.program, mesh, self.state).inference()
        evaluate = make_evaluate(self.program, mesh, shardings, batch_size=batch_size)
        return evaluate(self.state.inference(), self.dataset.splits["test"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt", "bert"])
def test_an_evaluation_is_the_same_on_any_devices_in_any_batches(make_text_config, name):
    training = Training(make_text_config(name))
    expected = training.evaluate(1, 16)
    assert training.evaluate(1, 16) == expected
    for devices, batch_size in ((1, 5), (8, 64)):
        assert training.evaluate(devices, batch_size) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_batch_in_parts_has_the_loss_per_token_of_the_whole(make_text_config):
    results = []
    for parts in (1, 4):
        training = Training(make_text_config("gpt", train__accumulation_steps=parts))
        batch = training.batch(0)
        # Examples that ask for few tokens, as the last window of a text may.
        few = jnp.arange(LENGTH)[None, :] < 1 + jnp.arange(16)[:, None] % LENGTH
        batch |= {field: jnp.where(few, batch[field], PADDING_TOKEN) for field in ("inputs", "labels")}
        results.append(jax.device_get(jit_quickly(make_train_step(training.program))(training.state, batch)[1]))
    whole, in_parts = results
    assert whole["loss"][1] == in_parts["loss"][1] == int(few.sum())
    for metric in ("loss", "accuracy", "gradient_norm"):
        np.testing.assert_allclose(whole[metric], in_parts[metric], rtol=1e-4)


def test_training_hides_other_tokens_at_each_step_and_the_same_at_the_same_one(make_text_config):
    training = Training(make_text_config("bert", optimizer__learning_rate=1e-9, schedule__warmup=""))
    step = jit_quickly(make_train_step(training.program))
    batch = training.batch(0)
    first, metrics = step(training.state, batch)
    _, again = step(training.state, batch)
    _, later = step(first, batch)
    assert metrics["loss"] == again["loss"]
    assert metrics["loss"][1] != later["loss"][1]
    assert 0 < metrics["loss"][1] < 0.4 * 16 * LENGTH

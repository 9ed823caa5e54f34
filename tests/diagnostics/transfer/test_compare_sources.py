"""Sources scored side by side, from run directories that were really trained."""

import dataclasses
import pathlib
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from configs import defaults
from data.pool import load_pool
from diagnostics.statistics import paired_difference
from diagnostics.transfer import compare_sources, encoders, relevance
from diagnostics.transfer.encoders import Encoder, source_config
from plumbline import UserError
from trainers.run.loop import train
from trainers.settings import override

FIXTURES = pathlib.Path(__file__).parents[2] / "references" / "fixtures"
FIELDS = {
    "data.target": "label",
    "data.test": "20 percent",
    "data.validation": "none",
    "model.name": "mlp",
    "model.mlp.hidden_sizes": (64, 32),
    "optimizer.learning_rate": 2e-3,
    "train.duration": "40 epochs",
    "train.batch_size": 64,
    "train.log_every": "10 epochs",
    "train.evaluate_every": "40 epochs",
    "train.checkpoint_every": "40 epochs",
    "train.best_metric": "loss",
    "train.tensorboard": False,
    "execution.mode": "loop",
}


def config_of(source, **changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    return override(defaults.get_config(), {**FIELDS, "data.source": source, **changes})


def write(path, inputs, labels):
    """A table of the digits' pixels."""
    head = ",".join([*(f"pixel{number}" for number in range(inputs.shape[1])), "label"])
    lines = [",".join([*map(str, row), f"digit{label}"]) for row, label in zip(inputs, labels, strict=True)]
    path.write_text("\n".join([head, *lines]) + "\n")
    return f"csv:{path}"


@dataclasses.dataclass
class Pretrained:
    """Run directories, and the table that they are judged for."""

    related: str
    permuted: str
    task: str


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Two random initialisations, which take less time than five."""
    monkeypatch.setattr(compare_sources, "_DRAWS", 2)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Pretrained on the first half of the digits' writers: on what they wrote, and with the labels permuted."""
    folder = tmp_path_factory.mktemp("pretrained")
    inputs, labels = load_digits(return_X_y=True)
    inputs, half = inputs.astype(int), len(labels) // 2
    for name, seen in (
        ("related", labels[:half]),
        ("permuted", np.random.default_rng(0).permutation(labels[:half])),
    ):
        source = write(folder / f"{name}.csv", inputs[:half], seen)
        train(config_of(source), folder / name, devices=jax.devices()[:1])
    task = write(folder / "task.csv", inputs[half:], labels[half:])
    return Pretrained(str(folder / "related"), str(folder / "permuted"), task)


def compare(config, sources, *, folds=3, limit=0, show=lambda text: None):
    return compare_sources.compare(config, sources, folds=folds, limit=limit, show=show)


def test_related_pretraining_ranks_above_permuted(pretrained, capsys):
    shown = []
    config = config_of(pretrained.task)
    found = compare(config, [pretrained.permuted, pretrained.related], folds=5, limit=200, show=shown.append)
    permuted, related, random, simple = found.candidates
    assert [each.kind for each in found.candidates] == ["source", "source", "random", "simple"]
    assert (permuted.random, related.random) == ("random mlp", "random mlp")
    assert (random.name, simple.name) == ("random mlp", "raw inputs, logistic regression")
    assert [layer.name for layer in related.layers] == ["hidden/0", "features"]
    for good, bad in zip(related.layers, permuted.layers, strict=True):
        assert good.probe.mean() > bad.probe.mean()
        assert good.neighbours.mean() > bad.neighbours.mean()
        assert good.logme[0] > bad.logme[0]
    # What the head reads is where it shows.
    good, bad = related.layers[-1], permuted.layers[-1]
    for one, other in ((good.probe, bad.probe), (good.neighbours, bad.neighbours)):
        assert paired_difference(one, other, overlap=related.overlap)[1] > 0
    assert good.logme[1] > bad.logme[2]
    assert relevance.judge(found.candidates, "classification").take == pretrained.related
    assert (len(found.rows), found.num_rows, found.num_test) == (200, 719, 180)
    assert found.remarks == ()
    assert any(text.startswith(f"{pretrained.related}: rows through the model 200/200  ") for text in shown)
    assert any(text.startswith("random mlp, draw 2: layers scored 2/2  ") for text in shown)
    assert capsys.readouterr().err.count("transfer.source: Plumbline or Orbax checkpoint: ") == 2


def test_only_training_and_validation_rows_are_scored_and_all_in_the_same_folds(pretrained):
    config = config_of(pretrained.task, data__validation="20 percent")
    found = compare(config, [pretrained.related])
    splits = load_pool(config.data, seed=config.seed)
    test = splits.rows[splits.splits["test"]]
    assert len(np.intersect1d(found.rows, test)) == 0
    assert len(found.rows) + len(test) == len(splits.rows) == 899
    held_out = np.concatenate([rows for _, rows in found.splits.folds])
    np.testing.assert_array_equal(np.sort(held_out), np.arange(719))
    scored = {layer.probe.shape for candidate in found.candidates for layer in candidate.layers}
    assert scored == {(3,)}


def test_an_encoder_gives_what_the_run_itself_makes_of_the_examples(pretrained):
    config = encoders.source_config(config_of(pretrained.task), pretrained.related)
    assert (config.model.name, config.model.mlp.hidden_sizes) == ("mlp", (64, 32))
    pool = load_pool(config.data, seed=0)
    encoder = Encoder(config, pool)
    # No multiple of the batch.
    positions = np.arange(3, 100)
    layers = encoder.layers(positions)
    inputs = (pool.inputs[positions] - pool.inputs[pool.splits["train"]].mean(axis=0)) / np.maximum(
        pool.inputs[pool.splits["train"]].std(axis=0), 1e-30
    )
    arrays = jax.tree.map(np.asarray, encoder._variables[0])
    hidden = np.maximum(inputs @ arrays["hidden"][0]["kernel"] + arrays["hidden"][0]["bias"], 0)
    assert layers["hidden/0"].shape == (97, 64)
    constant = pool.inputs[pool.splits["train"]].std(axis=0) == 0
    assert constant.any()
    same = ~(np.abs(pool.inputs[positions][:, constant]) > 0).any(axis=1)
    np.testing.assert_allclose(layers["hidden/0"][same], hidden[same], rtol=1e-3, atol=1e-3)
    fresh = Encoder(config, pool, fresh=True)
    assert fresh.architecture == encoder.architecture
    assert not np.allclose(fresh.layers(positions)["features"], layers["features"])


@pytest.mark.slow
def test_a_number_is_scored_by_the_share_of_its_variance_that_is_explained(tmp_path):
    config = config_of("sklearn:diabetes", data__target="", train__duration="60 epochs", model__mlp__hidden_sizes=(32,))
    train(config, tmp_path / "run", devices=jax.devices()[:1])
    found = compare(config, [str(tmp_path / "run")], folds=4)
    source, _, simple = found.candidates
    assert simple.name == "raw inputs, ridge regression"
    # scikit-learn's own ridge regression comes to about 0.48 on these.
    assert 0.4 < simple.values().mean() < 0.55
    assert 0.2 < source.values().mean() < 0.6
    assert np.isfinite(source.layers[-1].logme).all()


@pytest.fixture
def pictures(tmp_path):
    """A folder of pictures of two classes."""
    generator = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 100)):
        folder = tmp_path / "pictures" / "train" / name
        folder.mkdir(parents=True)
        for number in range(15):
            pixels = generator.integers(low, low + 128, (50, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return f"folder:{tmp_path / 'pictures'}"


@pytest.mark.slow
def test_sources_of_other_sizes_and_norms_are_each_read_as_they_expect(pictures):
    sources = [str(FIXTURES / name) for name in ("hf_vit", "hf_resnet_basic")]
    found = compare(config_of(pictures, data__target=""), sources, folds=2)
    kinds = {each.name: each.kind for each in found.candidates}
    assert list(kinds) == [*sources, "random vit", "random resnet 2", "raw inputs, logistic regression"]
    assert [layer.name for layer in found.candidates[0].layers][:2] == ["embedding", "blocks/0"]
    assert [layer.name for layer in found.candidates[1].layers][:2] == ["stem", "stages/0"]
    # Of these the mean says it all.
    assert found.candidates[-1].values().mean() > 0.9


def test_large_pictures_are_averaged_before_they_are_compared_pixel_by_pixel(pictures):
    config = config_of(pictures, data__target="", data__image_size=48)
    pool = load_pool(config.data, seed=0)
    fitted = encoders.preprocessing_of(pool, config)
    raw = encoders.raw_inputs(pool, np.arange(5), fitted)
    assert raw.shape == (5, 32 * 32 * 3)
    expected = (pool.inputs[:5].astype(float).mean(axis=(1, 2)) / 255 - fitted["mean"]) / fitted["std"]
    np.testing.assert_allclose(raw.reshape(5, -1, 3).mean(axis=1), expected, atol=0.05)


def test_a_table_is_compared_as_its_numbers_and_one_hot_codes(tmp_path):
    rows = [f"{n},{'xyz'[n % 3]},{'ab'[n % 2]}" for n in range(40)]
    (tmp_path / "table.csv").write_text("\n".join(["size,kind,label", *rows]) + "\n")
    config = config_of(f"csv:{tmp_path / 'table.csv'}")
    pool = load_pool(config.data, seed=0)
    raw = encoders.raw_inputs(pool, pool.splits["train"], encoders.preprocessing_of(pool, config))
    assert raw.shape == (32, 1 + 5)
    np.testing.assert_array_equal(raw[:, 1:].sum(axis=1), np.ones(32))
    assert raw[:, 0].std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such", "--source: no such file or directory '/no/such'; give a run directory"),
        (
            str(FIXTURES / "hf_vit"),
            f"--source: '{FIXTURES / 'hf_vit'}': model.name: 'vit' reads images (height, width,",
        ),
    ],
)
def test_a_source_that_is_missing_or_for_other_data_is_an_error_that_names_it(pretrained, source, message):
    with pytest.raises(UserError) as error:
        compare(config_of(pretrained.task), [pretrained.related, source])
    assert str(error.value).startswith(message)


def test_a_source_for_another_table_is_an_error_that_names_it(pretrained):
    with pytest.raises(
        UserError, match=r"^--source: .*related, step .* of the shape \(4, 64\); it was trained on other"
    ):
        compare(config_of("sklearn:iris", data__target=""), [pretrained.related])


def test_a_source_that_has_diverged_is_an_error_that_names_it(pretrained, monkeypatch):
    layers = Encoder.layers
    config = config_of(pretrained.task)

    def broken(encoder, positions, show):
        params, statistics = encoder._variables
        encoder._variables = jax.tree.map(lambda leaf: leaf * np.float32("inf"), params), statistics
        return layers(encoder, positions, show)

    monkeypatch.setattr(Encoder, "layers", broken)
    with pytest.raises(UserError, match=r"^--source: '.*related': its layer 'hidden/0' gives values that are not"):
        compare(config, [pretrained.related])


@pytest.fixture
def texts(tmp_path):
    """A folder of texts of two classes, with two words of its class in each."""
    generator = np.random.default_rng(0)
    for name, own in {"good": ["warm", "bright"], "bad": ["dull", "flat"]}.items():
        folder = tmp_path / "texts" / name
        folder.mkdir(parents=True)
        for number in range(20):
            words = generator.permutation([*generator.choice(own, 2), *generator.choice(["the", "a", "film"], 6)])
            (folder / f"{number}.txt").write_text(" ".join(words))
    return f"folder:{tmp_path / 'texts'}"


@pytest.mark.slow
def test_texts_are_compared_with_tfidf_of_the_whole_of_them(texts):
    found = compare(
        config_of(texts, data__target="", data__text_length=12, data__tokenizer="characters"),
        [str(FIXTURES / "hf_bert")],
    )
    bert, random, simple = found.candidates
    assert (random.name, simple.name) == ("random bert", "TF-IDF, logistic regression")
    assert [layer.name for layer in bert.layers][:2] == ["embedding", "blocks/0"]
    assert simple.values().mean() == 1
    assert found.num_rows == 32


def test_texts_are_read_by_the_tokenizer_of_each_source(texts, words_tokenizer, tmp_path):
    shutil.copytree(FIXTURES / "hf_bert", tmp_path / "bert")
    shutil.copy(words_tokenizer / "tokenizer.json", tmp_path / "bert" / "tokenizer.json")
    config = config_of(texts, data__target="", data__tokenizer="characters")
    read = [source_config(config, str(path)).data.tokenizer for path in (tmp_path / "bert", FIXTURES / "hf_bert")]
    assert read == [str(tmp_path / "bert" / "tokenizer.json"), "characters"]


def test_a_source_for_images_is_no_source_for_texts(texts):
    source = str(FIXTURES / "hf_vit")
    with pytest.raises(UserError) as error:
        compare(config_of(texts, data__target="", data__tokenizer="characters"), [source])
    assert str(error.value).startswith(f"--source: '{source}' reads images, and data.image_size: needs images, but")
    assert str(error.value).endswith("holds texts; choose another source")


def test_language_modelling_has_no_labels_to_score(tmp_path):
    (tmp_path / "book.txt").write_text("to be or not to be, that is the question. " * 50)
    fields = {"data__target": "", "data__tokenizer": "characters", "data__text_length": 12}
    with pytest.raises(UserError, match=r"^data\.source: 'text:.*' is for language modelling; relevance is scored"):
        compare(config_of(f"text:{tmp_path / 'book.txt'}", **fields), [str(FIXTURES / "hf_bert")])

"""Trainings on texts that begin with weights from elsewhere."""

import pathlib
import shutil

import jax
import numpy as np
import pytest
import tokenizers

from configs import defaults
from data import Features
from plumbline import UserError
from trainers.building import build_program
from trainers.run import transfer
from trainers.run.directory import RunDirectory
from trainers.run.inference import FinishedRun
from trainers.run.loop import train
from trainers.settings import override

FIXTURES = pathlib.Path(__file__).parents[2] / "references" / "fixtures"
WORDS = ("good", "bad", "film", "plot", "dull", "fine")
FIELDS = {
    "data.text": "text",
    "data.target": "label",
    "data.text_length": 8,
    "data.validation": "20 percent",
    "train.duration": "10 steps",
    "train.batch_size": 8,
    "train.log_every": "5 steps",
    "train.evaluate_every": "5 steps",
    "train.checkpoint_every": "5 steps",
    "train.best_metric": "loss",
    "train.tensorboard": False,
    "execution.mode": "loop",
}


def config_of(**changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    return override(defaults.get_config(), FIELDS | changes)


def save_tokenizer(folder):
    """Forty tokens, of which six are words, as many as the fixtures have rows for."""
    vocabulary = {f"<{number}>": number for number in range(34)} | {word: 34 + n for n, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<0>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))


@pytest.fixture
def table(tmp_path):
    """Sixty short texts of two classes."""
    generator = np.random.default_rng(0)
    rows = [(" ".join(generator.choice(WORDS, generator.integers(2, 7))), "ab"[row % 2]) for row in range(60)]
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return f"csv:{tmp_path / 'texts.csv'}"


@pytest.fixture
def copy_of(tmp_path):
    def make(name):
        shutil.copytree(FIXTURES / name, tmp_path / name)
        return tmp_path / name

    return make


def pretrained_config(source, table, **changes):
    return config_of(data__source=table, model__name="pretrained", transfer__source=str(source), **changes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hf_bert", "hf_distilbert_masked", "hf_gpt2"])
def test_a_directory_with_its_tokenizer_is_all_that_is_needed(copy_of, table, tmp_path, name):
    source = copy_of(name)
    save_tokenizer(source)
    config = pretrained_config(source, table)
    assert transfer.resolve(config).data.tokenizer == str(source / "tokenizer.json")
    summary = train(config, tmp_path / "run", devices=jax.devices()[:1])
    assert np.isfinite(summary["metrics"]["validation"]["loss"])
    # The run answers without the source.
    shutil.rmtree(source)
    (tmp_path / "new.csv").write_text("text\ngood film\nbad plot plot\n")
    answers = list(FinishedRun(tmp_path / "run").predict([str(tmp_path / "new.csv")]))
    assert len(answers) == 2
    assert all(set(answer["probabilities"]) == {"a", "b"} for answer in answers)


def test_a_directory_without_a_tokenizer_is_refused_and_nothing_is_written(copy_of, table, tmp_path):
    config = pretrained_config(copy_of("hf_bert"), table)
    with pytest.raises(UserError, match=r"^data.tokenizer: not set, "):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_tokenizer_and_the_pooling_of_a_config_are_kept(copy_of, table, tmp_path):
    source = copy_of("hf_bert")
    save_tokenizer(source)
    own = {"data__tokenizer": "mine.json", "model__bert__pooling": "mean"}
    config = transfer.resolve(pretrained_config(source, table, **own))
    assert (config.data.tokenizer, config.model.bert.pooling) == ("mine.json", "mean")
    assert config.model.bert.width == 16
    plain = transfer.resolve(pretrained_config(source, table))
    assert (plain.model.bert.pooling, plain.model.bert.pooler) == ("token", "tanh")


@pytest.mark.slow
def test_a_classifier_begins_with_a_language_model_of_ours(table, tmp_path):
    (tmp_path / "plays.txt").write_text("good film bad plot\ndull film fine plot\n" * 40)
    sizes = {"width": 16, "depth": 2, "heads": 2, "mlp_size": 24}
    language = config_of(
        data__source=f"text:{tmp_path / 'plays.txt'}",
        data__text="",
        data__target="",
        data__tokenizer="characters",
        data__text_length=12,
        model__name="gpt",
        **{f"model__gpt__{name}": size for name, size in sizes.items()},
    )
    train(language, tmp_path / "language", devices=jax.devices()[:1])
    config = transfer.resolve(pretrained_config(tmp_path / "language", table))
    assert config.data.tokenizer == str(tmp_path / "language" / "tokenizer.json")
    assert (config.model.gpt.max_length, config.model.gpt.depth) == (12, 2)
    train(config, tmp_path / "run", devices=jax.devices()[:1])
    report = (tmp_path / "run" / "transfer.txt").read_text()
    assert "head/kernel" in report
    features = RunDirectory(tmp_path / "run").features()
    assert features.tokenizer == RunDirectory(tmp_path / "language").features().tokenizer
    # And on from the classifier, of which the head is of no use to a language model.
    back = override(language, {"model.name": "pretrained", "transfer.source": str(tmp_path / "run")})
    back = override(back, {"data.text_length": 8, "data.tokenizer": ""})
    summary = train(back, tmp_path / "back", devices=jax.devices()[:1])
    assert np.isfinite(summary["metrics"]["validation"]["perplexity"])


@pytest.mark.slow
def test_a_run_whose_tokens_are_others_is_no_source_even_where_they_are_as_many(tmp_path):
    for name, text in {"one": "abcdefgh bcdefa\n", "other": "zyxwvuts syxwvz\n", "more": "abcdefgh zbcdefa\n"}.items():
        (tmp_path / f"{name}.txt").write_text(text * 40)
    sizes = {f"model__gpt__{name}": size for name, size in (("width", 8), ("depth", 1), ("heads", 2), ("mlp_size", 8))}
    fields = {"data__text": "", "data__target": "", "data__tokenizer": "characters", "model__name": "gpt"} | sizes
    # Rows to spare, as many files have, so that all tokenizers fit.
    fields |= {"model__gpt__vocabulary": 16, "train__duration": "1 steps", "schedule__warmup": ""}
    train(config_of(data__source=f"text:{tmp_path / 'one.txt'}", **fields), tmp_path / "run", devices=jax.devices()[:1])
    fields |= {"model__name": "pretrained", "transfer__source": str(tmp_path / "run")}
    with pytest.raises(
        UserError, match=r"^data.tokenizer: has other tokens than '.*run' was trained on; leave it empty"
    ):
        train(config_of(data__source=f"text:{tmp_path / 'other.txt'}", **fields), tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
    train(
        config_of(data__source=f"text:{tmp_path / 'more.txt'}", **fields), tmp_path / "right", devices=jax.devices()[:1]
    )


def test_as_many_classes_as_tokens_need_a_pooling_by_name():
    shape = {"shape": (8,), "dtype": "int32", "vocabulary": 3}
    features = Features(kind="text", task="classification", class_names=("a", "b", "c"), **shape)
    with pytest.raises(UserError, match=r"^model.bert.pooling: .* as many classes as tokens"):
        build_program(config_of(model__name="bert"), features)
    program, _ = build_program(config_of(model__name="bert", model__bert__pooling="mean"), features)
    assert program.params["head"]["kernel"].shape == (128, 3)

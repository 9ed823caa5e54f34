import gzip
import re

import numpy as np
import pytest

import data
from data import language, tokenizer
from data.batches import TrainBatches, evaluation_batches
from data.features import PADDING_TOKEN
from data.pool import load_pool
from plumbline import UserError
from tests.conftest import POEM

TEXT = POEM * 6


@pytest.fixture
def text_file(tmp_path):
    (tmp_path / "poem.txt").write_text(TEXT)
    return tmp_path / "poem.txt"


@pytest.fixture
def make_language_config(make_config, text_file):
    def make(**fields):
        given = {"source": f"text:{text_file}", "tokenizer": "characters", "text_length": 10, **fields}
        return make_config(**given)

    return make


def joined(split, chosen):
    """The text of windows that follow each other: their inputs, and the last label."""
    inputs, labels = split.read(np.arange(len(split))), split.labels
    flat = [*inputs.ravel().tolist(), labels.ravel()[-1]]
    return chosen.decode([token for token in flat if token != PADDING_TOKEN])


def test_parts_follow_each_other_and_are_all_of_the_text(make_language_config):
    dataset = data.load(make_language_config(test="20 percent", validation="10 percent"), seed=0)
    assert dataset.features.task == "language"
    assert (dataset.features.num_outputs, dataset.features.label_shape) == (dataset.features.vocabulary, (10,))
    test = round(0.2 * len(TEXT))
    validation = round(0.1 * (len(TEXT) - test))
    ends = {"train": (0, -validation - test), "validation": (-validation - test, -test), "test": (-test, None)}
    chosen = tokenizer.Tokenizer(dataset.features.tokenizer)
    for name, (start, end) in ends.items():
        assert joined(dataset.splits[name], chosen) == TEXT[start:end]


def test_every_token_but_the_first_of_a_part_is_asked_for_once_and_is_the_one_that_follows(make_language_config):
    dataset = data.load(make_language_config(validation="none"), seed=0)
    split = dataset.splits["test"]
    chosen = tokenizer.Tokenizer(dataset.features.tokenizer)
    tokens = chosen.tokens(TEXT[-round(0.2 * len(TEXT)) :])
    asked = split.labels[split.labels != PADDING_TOKEN]
    np.testing.assert_array_equal(asked, tokens[1:])
    inputs = split.read(np.arange(len(split)))
    np.testing.assert_array_equal(inputs[:, 1:][inputs[:, 1:] != PADDING_TOKEN], _after_first(tokens, 10))
    assert inputs.dtype == split.labels.dtype == np.int32


def _after_first(tokens, length):
    return [token for position, token in enumerate(tokens) if position % length]


@pytest.mark.parametrize(
    ("count", "length", "stride"), [(11, 10, 10), (31, 10, 4), (32, 10, 4), (40, 10, 1), (21, 10, 10)]
)
def test_windows_begin_every_stride_and_the_last_one_reaches_the_end(count, length, stride):
    inputs, labels = language.cut_windows(np.arange(count, dtype=np.int32), length, stride)
    for number, (window, following) in enumerate(zip(inputs, labels, strict=True)):
        expected = np.arange(number * stride, number * stride + length)
        np.testing.assert_array_equal(window, np.where(expected < count, expected, PADDING_TOKEN))
        np.testing.assert_array_equal(following, np.where(expected + 1 < count, expected + 1, PADDING_TOKEN))
    assert labels.max() == count - 1
    assert (labels[:-1] != PADDING_TOKEN).all()
    assert (labels[:-1] < count - 1).all()


def test_overlapping_windows_are_read_without_a_copy_of_the_text(make_language_config):
    split = data.load(make_language_config(text_stride=1, validation="none"), seed=0).splits["train"]
    assert np.shares_memory(split.labels[0], split.labels[1])
    batches = TrainBatches(split, batch_size=7, seed=3)
    batch = batches.read(2)
    inputs, labels = split.read(np.arange(len(split))), np.array(split.labels)
    position = {int(row): number for number, row in enumerate(split.rows)}
    for number, row in enumerate(batch["index"].tolist()):
        np.testing.assert_array_equal(batch["inputs"][number], inputs[position[row]])
        np.testing.assert_array_equal(batch["labels"][number], labels[position[row]])
    assert batches.read(2, 3)["labels"].shape == (3, 7, 10)
    last = list(evaluation_batches(split, batch_size=50))[-1]
    assert last["labels"].shape == (50, 10)


def test_rows_tell_all_windows_of_a_set_apart(make_language_config):
    splits = data.load(make_language_config(text_stride=3), seed=0).splits
    rows = np.concatenate([split.rows for split in splits.values()])
    assert len(np.unique(rows)) == len(rows)


def test_a_folder_is_read_by_name_and_packed_files_are_unpacked(make_config, tmp_path):
    folder = tmp_path / "poems"
    (folder / "more").mkdir(parents=True)
    (folder / "b.txt.gz").write_bytes(gzip.compress(POEM.replace("\n", "\r\n").encode()))
    (folder / "a.txt").write_text(POEM.rstrip("\n"))
    (folder / "more" / "c.TXT").write_text(POEM)
    (folder / "notes.md").write_text("no text of it")
    (folder / "._a.txt").write_text("no text of it")
    config = make_config(source=f"text:{folder}", tokenizer="characters", text_length=10, validation="none")
    dataset = data.load(config, seed=0)
    chosen = tokenizer.Tokenizer(dataset.features.tokenizer)
    assert "".join(joined(split, chosen) for split in dataset.splits.values()) == POEM * 3
    assert {entry.reason: entry.number for entry in dataset.left_out} == {"of another type": 1, "with a hidden name": 1}


def test_another_text_is_the_test_whole(make_language_config, tmp_path):
    (tmp_path / "other.txt").write_text(POEM[::-1])
    dataset = data.load(make_language_config(test=str(tmp_path / "other.txt"), validation="none"), seed=0)
    chosen = tokenizer.Tokenizer(dataset.features.tokenizer)
    assert joined(dataset.splits["test"], chosen) == POEM[::-1]
    assert joined(dataset.splits["train"], chosen) == TEXT


def test_the_text_of_a_window_is_that_of_its_tokens(make_language_config):
    split = data.load(make_language_config(), seed=0).splits["train"]
    assert split.reader.text(2) == TEXT[20:30]
    assert split.reader.name(2) == "window 2"


def test_a_pool_holds_windows_and_their_labels(make_language_config):
    pool = load_pool(make_language_config(), seed=0)
    assert pool.inputs.shape == pool.labels.shape == (len(pool.rows), 10)
    assert pool.texts is None
    with pytest.raises(UserError, match="--folds: splits examples at random, but windows of one text"):
        pool.require_independent("--folds")


def _spoil(text_file, case):
    if case == "latin":
        text_file.write_bytes(b"T\xfcger" * 100)
    elif case == "empty":
        text_file.write_text("\n \n")
    elif case == "missing":
        text_file.unlink()
    elif case == "broken":
        (text_file.parent / "poem.txt.gz").write_bytes(gzip.compress(TEXT.encode())[:-9])
        return {"source": f"text:{text_file}.gz"}
    elif case == "no text":
        text_file.rename(text_file.with_suffix(".md"))
        return {"source": f"text:{text_file.with_suffix('.md')}"}
    elif case == "no texts":
        text_file.rename(text_file.with_suffix(".md"))
        return {"source": f"text:{text_file.parent}"}
    elif case == "same test":
        return {"test": str(text_file)}
    return {}


@pytest.mark.parametrize(
    ("case", "fields", "message"),
    [
        ("latin", {}, r"data.source: '.*poem.txt' is not encoded as UTF-8 \(.*\); save it as UTF-8"),
        ("empty", {}, r"data.source: '.*poem.txt' is empty; give a text"),
        ("missing", {}, r"data.source: no such file or folder '.*poem.txt'; give a .txt or .txt.gz file, or a folder"),
        ("broken", {}, r"data.source: '.*poem.txt.gz' cannot be unpacked \(.*\)"),
        ("no text", {}, r"data.source: '.*poem.md' is not a text file; give a .txt"),
        ("no texts", {}, r"data.source: folder '.*' has no texts; expected .txt or .txt.gz files in it or below it"),
        ("same test", {}, r"data.test: is the same text as the training data; name another file or 'N percent'"),
        ("", {"test": "none"}, r"data.test: 'none' is not valid; write 'auto', 'N percent' or a path"),
        ("", {"test": "split:x"}, r"data.test: 'split:x', but a text has no named splits; write 'N percent'"),
        ("", {"validation": "tenth"}, r"data.validation: 'tenth' is not valid; write 'auto', 'none' or 'N percent'"),
        ("", {"text_length": 200}, r"data.text_length: 200, but the validation split has \d+ tokens, too few for one"),
        ("", {"text_stride": 11}, r"data.text_stride: 11 is more than data.text_length, 10, so tokens between"),
        (
            "",
            {"task": "classification"},
            r"data.task: 'classification' is not supported for text:.*; leave it at 'auto'",
        ),
        ("", {"image_size": 4}, r"data.image_size: needs images, but 'text:.*' holds texts; leave it at 0"),
        (
            "",
            {"class_weights": "balanced"},
            r"data.class_weights: 'balanced' is for classification; choose 'none' for l",
        ),
        ("", {"tokenizer": ""}, r"data.tokenizer: not set"),
    ],
)
def test_a_wrong_text_is_an_error_in_one_line(make_language_config, text_file, case, fields, message):
    with pytest.raises(UserError) as raised:
        data.load(make_language_config(**(fields | (_spoil(text_file, case) or {}))), seed=0)
    assert re.search(message, str(raised.value)), raised.value
    assert "\n" not in str(raised.value)

import csv
import re

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import data
from data import Features, tokenizer
from data.pool import load_pool
from data.row_lists import RowLists
from plumbline import UserError
from tests.conftest import POEM

LINES = [line for line in POEM.splitlines() if line]
TEXTS = [f"{LINES[number % len(LINES)]} {number}" for number in range(60)]


@pytest.fixture
def write_table(tmp_path):
    """Writes a table of texts; gives the fields of a config on it."""

    def write(texts=TEXTS, name="poems.csv", targets=None, **columns):
        targets = targets or [("bad", "good")[number % 2] for number in range(len(texts))]
        columns = {"line": texts, "verdict": targets, **columns}
        if name.endswith(".parquet"):
            pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / name)
        else:
            with (tmp_path / name).open("w", newline="") as file:
                csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
        scheme = "parquet" if name.endswith(".parquet") else "csv"
        return {"source": f"{scheme}:{tmp_path / name}", "target": "verdict", "text": "line", "text_length": 16}

    return write


@pytest.fixture
def text_folder(tmp_path):
    """A folder with splits: 2 classes of 20 training and 5 test files."""
    root = tmp_path / "poems"
    for split, per_class in (("train", 20), ("test", 5)):
        for number, name in enumerate(("bad", "good")):
            (root / split / name).mkdir(parents=True)
            for index in range(per_class):
                (root / split / name / f"{index:02}.txt").write_text(TEXTS[2 * index + number])
    (root / "train" / "README.txt").write_text("A note beside the classes is none.")
    return root


def read_all(split):
    return split.read(np.arange(len(split)))


@pytest.mark.parametrize("name", ["poems.csv", "poems.parquet"])
def test_texts_of_a_column_are_tokens_with_their_labels(write_table, make_config, words_tokenizer, name):
    config = make_config(**write_table(name=name), tokenizer=str(words_tokenizer))
    dataset = data.load(config, seed=0)
    features = dataset.features
    assert (features.kind, features.task, features.class_names) == ("text", "classification", ("bad", "good"))
    assert (features.shape, features.input_shape, features.dtype) == ((16,), (16,), "int32")
    assert features.vocabulary == features.categories[0] == tokenizer.read(str(words_tokenizer)).vocabulary
    assert (features.label_shape, features.label_dtype) == ((), "int32")
    expected = tokenizer.read(str(words_tokenizer)).encode(TEXTS, 16)
    rows = []
    for split in dataset.splits.values():
        np.testing.assert_array_equal(read_all(split), expected[split.rows])
        np.testing.assert_array_equal(split.labels, split.rows % 2)
        assert [split.reader.text(position) for position in range(len(split))] == [TEXTS[row] for row in split.rows]
        rows.append(split.rows)
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(60))
    assert dataset.preprocessing == {}


def test_a_folder_of_text_files_has_its_splits_and_classes(text_folder, make_config, words_tokenizer):
    fields = {"tokenizer": str(words_tokenizer), "text_length": 20, "validation": "none"}
    dataset = data.load(make_config(source=f"folder:{text_folder}", **fields), seed=0)
    assert dataset.features.class_names == ("bad", "good")
    for name, per_class in (("train", 20), ("test", 5)):
        split = dataset.splits[name]
        np.testing.assert_array_equal(split.labels, np.repeat([0, 1], per_class))
        files = sorted((text_folder / name).glob("*/*.txt"))
        texts = [file.read_text() for file in files]
        np.testing.assert_array_equal(read_all(split), tokenizer.read(str(words_tokenizer)).encode(texts, 20))
        assert split.reader.name(3) == f"'{files[3]}'"
    without = data.load(make_config(source=f"folder:{text_folder / 'train'}", **fields), seed=0)
    assert np.bincount(without.splits["test"].labels).tolist() == [4, 4]


def test_groups_and_weights_of_a_text_are_those_of_its_row(write_table, make_config):
    groups, weights = [f"poet {number // 6}" for number in range(60)], [number % 3 for number in range(60)]
    fields = write_table(poet=groups, importance=weights)
    config = make_config(**fields, tokenizer="characters", group="poet", weight="importance")
    dataset = data.load(config, seed=1)
    found = [set(split.groups.tolist()) for split in dataset.splits.values()]
    assert sum(map(len, found)) == len(set().union(*found)) == 10
    for split in dataset.splits.values():
        np.testing.assert_array_equal(split.weights, split.rows % 3)
        np.testing.assert_array_equal(split.groups, split.rows // 6)


def test_a_regression_on_texts_scales_its_labels_and_nothing_else(write_table, make_config):
    targets = [number / 7 for number in range(60)]
    dataset = data.load(make_config(**write_table(targets=targets), tokenizer="characters"), seed=0)
    assert (dataset.features.task, dataset.features.num_outputs, dataset.features.label_dtype) == (
        "regression",
        1,
        "float32",
    )
    labels = dataset.splits["train"].labels
    np.testing.assert_allclose(labels, dataset.splits["train"].rows / 7, rtol=1e-6)
    assert dataset.preprocessing.keys() == {"label_mean", "label_std"}
    assert dataset.preprocessing["label_mean"] == pytest.approx(labels.mean())


def test_characters_are_those_of_the_training_rows_alone(write_table, make_config):
    config = make_config(**write_table([*TEXTS[:59], "quoth the Ж"]), tokenizer="characters", validation="none")
    known = []
    for seed in range(12):
        dataset = data.load(config, seed=seed)
        train = dataset.splits["train"]
        characters = {character for position in range(len(train)) for character in train.reader.text(position)}
        assert dataset.features.vocabulary == 1 + len(characters)
        known.append("Ж" in dataset.features.tokenizer)
        assert known[-1] == (59 in train.rows)
    assert set(known) == {True, False}


def test_a_test_file_of_its_own_is_read_as_the_training_file(write_table, make_config, tmp_path):
    other = write_table(TEXTS[:8], name="other.csv")
    config = make_config(**write_table(), tokenizer="characters", test=other["source"].removeprefix("csv:"))
    dataset = data.load(config, seed=0)
    chosen = tokenizer.Tokenizer(dataset.features.tokenizer)
    np.testing.assert_array_equal(read_all(dataset.splits["test"]), chosen.encode(TEXTS[:8], 16))


def test_the_features_of_a_run_stand_in_for_the_tokenizer_file(write_table, make_config, words_tokenizer, tmp_path):
    file = tmp_path / "tokenizer.json"
    file.write_bytes((words_tokenizer / "tokenizer.json").read_bytes())
    config = make_config(**write_table(), tokenizer=str(file))
    before = data.load(config, seed=0)
    file.unlink()
    features = Features.from_json(before.features.to_json())
    assert features == before.features
    again = data.load(config, seed=0, assets=data.RunAssets(tokenizer=features.tokenizer, row_lists=RowLists()))
    assert again.fingerprint == before.fingerprint
    np.testing.assert_array_equal(read_all(again.splits["test"]), read_all(before.splits["test"]))
    file.write_text(tokenizer.make_character_tokenizer([POEM]).content)
    assert data.load(config, seed=0).fingerprint != before.fingerprint


def test_a_pool_has_the_texts_in_the_order_of_its_rows(write_table, make_config):
    pool = load_pool(make_config(**write_table(), tokenizer="characters"), seed=0)
    assert pool.texts == [TEXTS[row] for row in pool.rows]
    assert pool.inputs.shape == (60, 16)
    assert pool.fit(pool.splits["train"], make_config()) == {}


def test_tokens_of_a_large_data_set_are_cached_for_each_tokenizer(write_table, make_config, words_tokenizer):
    long = [" ".join([text] * 200) for text in TEXTS]
    fields = write_table(long)
    config = make_config(**fields, tokenizer=str(words_tokenizer))
    first = data.load(config, seed=0)
    kept = list((data.cache.folder(config.cache_dir) / "decoded").glob("*/tokens.npy"))
    assert len(kept) == 1
    np.testing.assert_array_equal(np.load(kept[0]), tokenizer.read(str(words_tokenizer)).encode(long, 16))
    np.testing.assert_array_equal(read_all(data.load(config, seed=0).splits["test"]), read_all(first.splits["test"]))
    other = data.load(make_config(**{**fields, "text_length": 12}, tokenizer=str(words_tokenizer)), seed=0)
    assert other.features.shape == (12,)


@pytest.mark.parametrize(
    ("table", "fields", "message"),
    [
        ({}, {"text": "lime"}, r"data.text: unknown name 'lime'; did you mean 'line'\?"),
        ({}, {"text": "verdict"}, "data.text: 'verdict' is data.target as well; name another column"),
        ({}, {"ignore": ("line",)}, "data.ignore: 'line' is data.text; remove it from data.ignore"),
        ({}, {"tokenizer": ""}, "data.tokenizer: not set"),
        ({}, {"image_size": 8}, r"data.image_size: needs images, but 'csv:.*' holds texts; leave it at 0"),
        ({}, {"channels": 3}, "data.channels: needs images"),
        ({}, {"normalize": "imagenet"}, "data.normalize: 'imagenet' is for images; choose .* for a text"),
        ({}, {"text_length": 0}, "data.text_length: 0 given; it must be at least 1"),
        ({}, {"text_stride": 4}, r"data.text_stride: needs language modelling \(text:PATH\), but the source is 'csv:"),
        ({"texts": [*TEXTS[:30], " ", *TEXTS[:3]]}, {}, "poems.csv row 32, column 'line' is missing"),
        (
            {"name": "poems.parquet", "texts": list(range(60))},
            {},
            "data.text: column 'line' of .* is of type int64, no",
        ),
    ],
)
def test_a_wrong_table_of_texts_is_an_error_in_one_line(write_table, make_config, table, fields, message):
    config = make_config(**{"tokenizer": "characters", **write_table(**table), **fields})
    with pytest.raises(UserError) as raised:
        data.load(config, seed=0)
    assert re.search(message, str(raised.value))
    assert "\n" not in str(raised.value)


def _spoil(folder, case):
    if case == "latin":
        (folder / "train" / "bad" / "07.txt").write_bytes("Tüger".encode("latin-1"))
    elif case == "empty":
        (folder / "test" / "good" / "01.txt").write_text(" \n")
    elif case == "empty class":
        (folder / "train" / "ugly").mkdir()
    elif case == "no train":
        (folder / "train").rename(folder / "learn")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            "latin",
            r"data.source: '.*train/bad/07.txt' is not encoded as UTF-8 \(invalid start byte\); save it as UTF-8",
        ),
        ("empty", r"data.source: '.*test/good/01.txt' is empty"),
        ("empty class", r"data.source: '.*ugly' has no texts; put .txt files into it, or remove it"),
        ("no train", r"has learn, test but no 'train'; expected .*/train/<class>/\*.txt"),
    ],
)
def test_a_wrong_folder_of_texts_is_an_error_in_one_line(text_folder, make_config, case, message):
    _spoil(text_folder, case)
    with pytest.raises(UserError) as raised:
        data.load(make_config(source=f"folder:{text_folder}", tokenizer="characters"), seed=0)
    assert re.search(message, str(raised.value))
    assert "\n" not in str(raised.value)


def test_a_text_without_tokens_is_an_error(write_table, make_config, tmp_path):
    import tokenizers

    letters = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    letters.normalizer = tokenizers.normalizers.Replace(tokenizers.Regex("[0-9]"), "")
    letters.save(str(tmp_path / "letters.json"))
    config = make_config(**write_table([*TEXTS[:20], "2024"]), tokenizer=str(tmp_path / "letters.json"))
    with pytest.raises(UserError, match=r"the tokenizer gives no tokens for .*poems.csv row 22, column 'line'"):
        data.load(config, seed=0)


def test_a_text_column_is_of_tables_alone(image_folder, make_config):
    for source in (f"folder:{image_folder}", "digits", f"text:{image_folder}"):
        with pytest.raises(UserError, match=f"data.text: names a column, but '{source}' is not a table"):
            data.load(make_config(source=source, text="line"), seed=0)


def test_images_go_before_texts_that_lie_beside_them(image_folder, make_config):
    for file in list(image_folder.glob("*/*/*.png")):
        file.with_suffix(".txt").write_text("a caption")
    assert data.load(make_config(source=f"folder:{image_folder}"), seed=0).features.kind == "image"


def test_tokens_of_a_file_that_is_read_in_another_way_are_not_those_in_the_cache(
    tmp_path, make_config, words_tokenizer
):
    words = "\N{DOUBLE LOW-9 QUOTATION MARK} tyger " * 1000
    lines = [f"{words}{n};{n % 2}" for n in range(30)]
    (tmp_path / "a.csv").write_text("\n".join(["line;label", *lines]), encoding="cp1252")
    fields = {
        "source": f"csv:{tmp_path / 'a.csv'}",
        "target": "label",
        "text": "line",
        "tokenizer": str(words_tokenizer),
    }
    loaded = [data.load(make_config(**fields, encoding=encoding), seed=0) for encoding in ("cp1252", "latin-1")]
    chosen = tokenizer.Tokenizer(loaded[0].features.tokenizer)
    texts = [each.splits["train"].reader.text(0) for each in loaded]
    assert texts[0] == lines[int(loaded[0].splits["train"].rows[0])].partition(";")[0]
    assert texts[1] != texts[0]
    for each, text in zip(loaded, texts, strict=True):
        np.testing.assert_array_equal(each.splits["train"].read(np.arange(1)), chosen.encode([text], 128))


def test_texts_for_a_tokenizer_stay_as_they_are_also_where_unicode_has_a_composed_form(
    tmp_path, make_config, words_tokenizer
):
    lines = [f"u\N{COMBINING DIAERESIS} tyger {n};{n % 2}" for n in range(30)]
    (tmp_path / "a.csv").write_text("\n".join(["line;label", *lines]), encoding="utf-8")
    config = make_config(
        source=f"csv:{tmp_path / 'a.csv'}", target="label", text="line", tokenizer=str(words_tokenizer)
    )
    train = data.load(config, seed=0).splits["train"]
    assert train.reader.text(0) == lines[int(train.rows[0])].partition(";")[0]

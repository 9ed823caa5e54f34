import dataclasses
import gzip

import numpy as np
import pandas
import PIL.Image
import pytest

import data
from data import prediction
from plumbline import UserError


def _read(dataset, config, *paths):
    return list(prediction.read_inputs(dataset.features, config, paths))


@pytest.fixture
def table(tmp_path, make_config):
    rows = [f"{index},{'ab'[index % 2]},{('no', 'yes')[index % 2]}" for index in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["x,c,label", *rows]))
    config = make_config(source=f"csv:{tmp_path / 'a.csv'}", target="label", validation="none")
    return data.load(config, seed=0), config


def test_a_table_is_read_as_in_training(table, tmp_path):
    dataset, config = table
    (chunk,) = _read(dataset, config, tmp_path / "a.csv")
    for split in dataset.splits.values():
        np.testing.assert_array_equal(chunk.inputs[split.rows], split.read(np.arange(len(split))))
        names = [dataset.features.class_names[label] for label in split.labels]
        assert [chunk.labels[row] for row in split.rows] == names
    assert chunk.names[:2] == [f"{tmp_path / 'a.csv'}:2", f"{tmp_path / 'a.csv'}:3"]


def test_a_table_may_lack_its_target_and_mix_its_columns(table, tmp_path):
    dataset, config = table
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"extra,c,x\n1,b,5\n2,never seen,?\n"))
    (chunk,) = _read(dataset, config, tmp_path / "b.csv.gz")
    np.testing.assert_array_equal(chunk.inputs, [[5, 3], [np.nan, 0]])
    assert chunk.labels is None


def test_a_text_in_a_column_of_numbers_is_an_error_that_a_trained_run_can_follow(table, tmp_path):
    dataset, config = table
    (tmp_path / "b.csv").write_text("x,c\n1,a\nn.a.,b\n")
    with pytest.raises(UserError) as caught:
        _read(dataset, config, tmp_path / "b.csv")
    assert str(caught.value).endswith(
        "row 3, column 'x' holds 'n.a.', but training rows hold numbers; correct it, or leave the cell empty if it is "
        "missing (a new run reads it so with data.missing_values)"
    )


def test_a_table_without_an_input_column_is_an_error(table, tmp_path):
    dataset, config = table
    (tmp_path / "b.csv").write_text("X,c\n1,b\n")
    with pytest.raises(UserError, match=r"b.csv: input column: unknown name 'x'|b.csv: .*'x'"):
        _read(dataset, config, tmp_path / "b.csv")


def _load_without_header(tmp_path, make_config, target):
    rows = [[str(index), "ab"[index % 2], ("no", "yes")[index % 2]] for index in range(40)]
    if target == "c1":
        rows = [[row[0], row[2], row[1]] for row in rows]
    (tmp_path / "a.csv").write_text("\n".join(",".join(row) for row in rows))
    config = make_config(source=f"csv:{tmp_path / 'a.csv'}", target=target, validation="none", header=False)
    return data.load(config, seed=0), config


@pytest.mark.parametrize(
    ("target", "line", "message"),
    [
        ("c2", "5,b", None),
        ("c2", "5,b,", None),
        ("c2", "5,b,no,1", r"has 4 columns, the training file 3, .*; give the 3 columns .*the last one, the target"),
        ("c2", "5", r"has 1 column, the training file 3"),
        ("c1", "5,,b", None),
        ("c1", "5,b", r"^inputs: .* has 2 columns, the training file 3, .*; keep the target column 'c1', whose cells"),
        ("c1", "1,5,no,b", r"give the 3 columns of the training in their order$"),
    ],
)
def test_without_a_header_a_table_must_have_the_columns_of_the_training(tmp_path, make_config, target, line, message):
    dataset, config = _load_without_header(tmp_path, make_config, target)
    assert data.Features.from_json(dataset.features.to_json()).width == 3
    (tmp_path / "b.csv").write_text(line + "\n")
    frame = pandas.read_csv(tmp_path / "b.csv", header=None)
    if message is None:
        (chunk,) = _read(dataset, config, tmp_path / "b.csv")
        np.testing.assert_array_equal(chunk.inputs, [[5, 3]])
        np.testing.assert_array_equal(prediction.read_frame(dataset.features, config, frame).inputs, [[5, 3]])
        return
    with pytest.raises(UserError, match=message):
        _read(dataset, config, tmp_path / "b.csv")
    with pytest.raises(UserError, match=message):
        prediction.read_frame(dataset.features, config, frame)
    if target == "c1" and line.count(",") == 1:
        left = frame.rename(columns={1: 2})
        np.testing.assert_array_equal(prediction.read_frame(dataset.features, config, left).inputs, [[5, 3]])
    # The width is not known of runs of earlier versions.
    earlier = dataclasses.replace(dataset, features=dataclasses.replace(dataset.features, width=0))
    if line.count(",") > 1:
        assert len(_read(earlier, config, tmp_path / "b.csv")) == 1


def test_a_test_file_without_a_header_must_have_all_columns(tmp_path, make_config):
    _, config = _load_without_header(tmp_path, make_config, "c2")
    (tmp_path / "b.csv").write_text("5,b,no,1\n")
    config.test = str(tmp_path / "b.csv")
    with pytest.raises(UserError, match=r"^data.test: .* has 4 columns, the training file 3"):
        data.load(config, seed=0)


def test_images_are_found_in_folders_and_read_as_in_training(image_folder, make_config):
    config = make_config(source=f"folder:{image_folder}", validation="none")
    dataset = data.load(config, seed=0)
    (image_folder / "test" / "notes.txt").write_text("no image")
    (chunk,) = _read(dataset, config, image_folder / "test", image_folder / "train" / "ape" / "000.png")
    test = dataset.splits["test"]
    np.testing.assert_array_equal(chunk.inputs[:-1], test.read(np.arange(len(test))))
    assert chunk.names[-1] == str(image_folder / "train" / "ape" / "000.png")
    PIL.Image.new("L", (50, 40)).save(image_folder / "odd.JPG")
    assert _read(dataset, config, image_folder / "odd.JPG")[0].inputs.shape == (1, 5, 6, 3)


def test_what_cannot_be_predicted_is_an_error(image_folder, make_config):
    config = make_config(source=f"folder:{image_folder}")
    dataset = data.load(config, seed=0)
    (image_folder / "broken.png").write_bytes(b"broken")
    (image_folder / "empty").mkdir()
    (image_folder / "a.csv").write_text("x\n1\n")
    for name, message in {
        "broken.png": r"broken.png' is corrupt",
        "empty": r"empty' has no images",
        "nowhere": r"no such file or folder",
        "a.csv": r"a.csv' has the wrong type; the model was trained on images",
    }.items():
        with pytest.raises(UserError, match=message):
            _read(dataset, config, image_folder / name)


def test_all_images_of_a_folder_are_read_but_the_damaged_ones_which_are_noted(image_folder, make_config):
    config = make_config(source=f"folder:{image_folder}", validation="none")
    dataset = data.load(config, seed=0)
    test = image_folder / "test"
    (test / "ape" / "000.png").write_bytes(b"broken")
    (test / "ape" / "001.png").unlink()
    (test / "ape" / "001.png").symlink_to("gone")
    for name in ("._00.png", ".DS_Store", "notes.txt"):
        (test / "ape" / name).write_bytes(b"x")
    (test / "bee" / "album.png").mkdir()
    notes = prediction.Notes()
    (chunk,) = prediction.read_inputs(dataset.features, config, [test], notes)
    np.testing.assert_array_equal(chunk.inputs, dataset.splits["test"].read(np.arange(2, 12)))
    assert [str(error).split(" (")[0] for error in notes.unreadable] == [
        f"inputs: '{test}/ape/001.png' cannot be read",
        f"inputs: '{test}/ape/000.png' is corrupt",
    ]
    assert {entry.reason for entry in notes.left_out} == {"with a hidden name", "of another type"}
    with pytest.raises(UserError, match="cannot be read"):
        _read(dataset, config, test)


def test_what_counts_in_a_folder_is_what_counts_in_training(image_folder, make_config):
    for name in ("a.webp", "b.TIF", "sub/c.bmp", ".hidden.png", "d.svg"):
        (image_folder / "train" / "ape" / name).parent.mkdir(exist_ok=True)
        PIL.Image.new("RGB", (6, 5)).save(image_folder / "train" / "ape" / name, format="PNG")
    config = make_config(source=f"folder:{image_folder}", validation="none")
    dataset = data.load(config, seed=0)
    train = dataset.splits["train"]
    (chunk,) = _read(dataset, config, image_folder / "train")
    assert [f"'{name}'" for name in chunk.names] == [train.reader.name(row) for row in range(len(train))]
    np.testing.assert_array_equal(chunk.inputs, train.read(np.arange(len(train))))


@pytest.fixture
def texts(tmp_path, make_config):
    """A set of texts in a column, and its config."""
    lines = [f"tiger number {number},{('no', 'yes')[number % 2]}" for number in range(30)]
    (tmp_path / "texts.csv").write_text("\n".join(["line,label", *lines]))
    fields = {"target": "label", "text": "line", "tokenizer": "characters", "text_length": 16, "validation": "none"}
    config = make_config(source=f"csv:{tmp_path / 'texts.csv'}", **fields)
    return data.load(config, seed=0), config


def test_texts_are_read_as_in_training_from_a_column_or_files(texts, tmp_path):
    dataset, config = texts
    (chunk,) = _read(dataset, config, tmp_path / "texts.csv")
    for split in dataset.splits.values():
        np.testing.assert_array_equal(chunk.inputs[split.rows], split.read(np.arange(len(split))))
    assert chunk.labels[:2] == ["no", "yes"]
    assert chunk.names[1] == f"{tmp_path / 'texts.csv'}:3"
    (tmp_path / "some" / "more").mkdir(parents=True)
    (tmp_path / "some" / "b.txt").write_text("tiger number 1")
    (tmp_path / "some" / "more" / "a.txt").write_text("tiger number 0")
    (files,) = _read(dataset, config, tmp_path / "some")
    assert files.names == [str(tmp_path / "some" / name) for name in ("b.txt", "more/a.txt")]
    np.testing.assert_array_equal(files.inputs, chunk.inputs[[1, 0]])
    assert files.labels is None


def test_texts_that_cannot_be_read_are_noted(texts, tmp_path):
    for name, content in {"a.TXT": b"tiger number 1", "b.txt": b"\xfc", "c.txt": b" ", "._a.txt": b"x"}.items():
        (tmp_path / "some").mkdir(exist_ok=True)
        (tmp_path / "some" / name).write_bytes(content)
    notes = prediction.Notes()
    (chunk,) = prediction.read_inputs(texts[0].features, texts[1], [tmp_path / "some"], notes)
    assert chunk.names == [str(tmp_path / "some" / "a.TXT")]
    assert [str(error).split(" (")[0].split(";")[0] for error in notes.unreadable] == [
        f"inputs: '{tmp_path}/some/b.txt' is not encoded as UTF-8",
        f"inputs: '{tmp_path}/some/c.txt' is empty",
    ]


def test_texts_without_tokens_are_noted(texts, tmp_path):
    import tokenizers

    letters = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    letters.normalizer = tokenizers.normalizers.Replace(tokenizers.Regex("[0-9]"), "")
    features = dataclasses.replace(texts[0].features, tokenizer=letters.to_str(), vocabulary=1)
    (tmp_path / "some").mkdir()
    for name, content in {"a": "2024", "b": "a", "c": "1", "d": "a a"}.items():
        (tmp_path / "some" / f"{name}.txt").write_text(content)
    notes = prediction.Notes()
    (chunk,) = prediction.read_inputs(features, texts[1], [tmp_path / "some"], notes)
    assert chunk.names == [f"{tmp_path}/some/b.txt", f"{tmp_path}/some/d.txt"]
    assert [str(error).split(";")[0] for error in notes.unreadable] == [
        f"inputs: the tokenizer gives no tokens for '{tmp_path}/some/{name}.txt'" for name in "ac"
    ]


def _spoil_texts(folder, case):
    path = folder / {"empty": "x.txt", "latin": "x.txt", "image": "x.png", "lacking": "x.csv", "gap": "x.csv"}[case]
    path.write_bytes(
        {"empty": b" ", "latin": b"\xfc", "image": b"", "lacking": b"text\nhi\n", "gap": b"line\nhi\nNA\n"}[case]
    )
    return path


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("empty", r"inputs: '.*x.txt' is empty"),
        ("latin", r"inputs: '.*x.txt' is not encoded as UTF-8 \(invalid start byte\); save it as UTF-8"),
        ("lacking", r"inputs: '.*x.csv' lacks the text column 'line'; it has text"),
        ("gap", r"x.csv row 3, column 'line' is missing"),
    ],
)
def test_texts_that_cannot_be_predicted_are_an_error(texts, tmp_path, case, message):
    with pytest.raises(UserError, match=message):
        _read(*texts, _spoil_texts(tmp_path, case))


def test_a_model_of_text_files_takes_no_tables(texts, tmp_path):
    dataset, config = texts
    config.text = ""
    with pytest.raises(UserError, match=r"inputs: '.*texts.csv' has the wrong type; the model was trained on texts"):
        _read(dataset, config, tmp_path / "texts.csv")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match=r"inputs: folder '.*nothing' has no texts; expected .txt files in it or below"):
        _read(dataset, config, tmp_path / "nothing")

import contextlib
import io
import json
import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import sklearn.datasets

import data
from data import batches, preparing
from data.features import PADDING_TOKEN
from data.sources import SOURCES, digits
from plumbline import UserError
from tests.conftest import POEM


def _table(folder):
    return {"x": np.arange(40.0), "c": ["a", "b"] * 20, "label": ["no", "no", "yes", "yes"] * 10}


def _csv(folder, images):
    rows = [",".join(map(str, row)) for row in zip(*_table(folder).values(), strict=True)]
    (folder / "a.csv").write_text("\n".join(["x,c,label", *rows]))
    return {"source": f"csv:{folder / 'a.csv'}", "target": "label"}


def _parquet(folder, images):
    pyarrow.parquet.write_table(pyarrow.table(_table(folder)), folder / "a.parquet")
    return {"source": f"parquet:{folder / 'a.parquet'}", "target": "label"}


def _tfds(folder, images):
    digits.prepare(folder)
    return {"source": f"tfds:{digits.NAME}", "tfds_dir": str(folder)}


def _prepared(folder, images):
    preparing.prepare(f"folder:{images}", folder / "prepared", runner="none")
    return {"source": f"prepared:{folder / 'prepared'}"}


def _text(folder, images):
    (folder / "poem.txt").write_text(POEM * 3)
    return {"source": f"text:{folder / 'poem.txt'}", "tokenizer": "characters", "text_length": 8}


# How the contract test makes each source.
_EXAMPLES = {
    "csv": _csv,
    "digits": lambda folder, images: {"source": "digits"},
    "folder": lambda folder, images: {"source": f"folder:{images}"},
    "parquet": _parquet,
    "prepared": _prepared,
    "sklearn": lambda folder, images: {"source": "sklearn:iris"},
    "text": _text,
    "tfds": _tfds,
}


@pytest.mark.parametrize("scheme", SOURCES)
def test_every_source_keeps_the_contract(scheme, tmp_path, image_folder, make_config):
    assert scheme in _EXAMPLES, f"add a row for '{scheme}' to the table above"
    config = make_config(**_EXAMPLES[scheme](tmp_path, image_folder))
    dataset, again = data.load(config, seed=1), data.load(config, seed=1)
    features = dataset.features
    assert data.Features.from_json(json.loads(json.dumps(features.to_json()))) == features == again.features
    assert dataset.fingerprint == again.fingerprint
    assert set(dataset.splits) == {"train", "validation", "test"}
    for name, split in dataset.splits.items():
        np.testing.assert_array_equal(again.splits[name].rows, split.rows)
        inputs = split.read(np.arange(len(split)))
        assert (inputs.shape[1:], str(inputs.dtype)) == (features.shape, features.dtype)
        assert len(split) == len(split.labels) == len(split.weights) == split.num_examples > 0
        assert (split.labels.shape[1:], str(split.labels.dtype)) == (features.label_shape, features.label_dtype)
        assert set(split.labels.ravel().tolist()) <= {*range(features.num_outputs), PADDING_TOKEN}
        assert features.task == "language" or PADDING_TOKEN not in split.labels
        assert (split.groups is None) == (features.group_names == ())
    assert not set(dataset.splits["train"].rows) & set(dataset.splits["validation"].rows)
    batch = batches.TrainBatches(dataset.splits["train"], batch_size=16, seed=0).read(0)
    assert batch["inputs"].shape == (16, *features.shape)


def test_digits_are_those_of_sklearn_split_by_writer(make_config):
    dataset, truth = data.load(make_config(source="digits"), seed=0), sklearn.datasets.load_digits()
    for split in dataset.splits.values():
        inputs = split.read(np.arange(len(split)))[..., 0]
        np.testing.assert_array_equal(np.round(inputs * (16 / 255)), truth.images[split.rows])
        np.testing.assert_array_equal(split.labels, truth.target[split.rows])
    writers = {name: set(split.groups.tolist()) for name, split in dataset.splits.items()}
    assert writers["test"] == {11, 12, 13}
    assert dataset.splits["test"].rows.min() == 1415
    assert not writers["train"] & writers["validation"]


def test_digits_start_from_the_cache_without_importing_tfds(make_config):
    config = make_config(source="digits")
    data.load(config, seed=0)
    program = (
        "import sys, data; from configs import defaults; config = defaults.get_config().data; "
        "config.cache_dir = sys.argv[1]; data.load(config, seed=0); "
        "heavy = {'tensorflow_datasets', 'sklearn', 'pyarrow', 'grain', 'tokenizers'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program, config.cache_dir], check=True)


@pytest.mark.slow
def test_processes_that_prepare_the_digits_at_once_do_not_break_each_other(tmp_path):
    program = "import pathlib, sys; from data.sources import digits; digits.prepare(pathlib.Path(sys.argv[1]))"
    processes = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == [digits.NAME]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digts", r"data.source: unknown name 'digts'; did you mean 'digits'"),
        ("tfds:", r"data.source: 'tfds:' has no name"),
        ("digits:8", r"data.source: 'digits:8' is not valid; write 'digits' alone"),
        ("sklearn:irs", r"data.source: unknown name 'sklearn:irs'; did you mean 'sklearn:iris'"),
        ("tfds:mnist", r"data.source: 'tfds:mnist' is not prepared in .*download_and_prepare\(\)"),
        ("tfds:mnisst", r"data.source: TFDS has no data set 'mnisst'"),
    ],
)
def test_a_missing_source_is_an_error_in_one_line(source, message, tmp_path, make_config):
    with pytest.raises(UserError, match=message) as raised:
        data.load(make_config(source=source, tfds_dir=str(tmp_path)), seed=0)
    assert "\n" not in str(raised.value)


def test_loading_prints_nothing(make_config):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        data.load(make_config(source="digits"), seed=0)
    assert out.getvalue() + err.getvalue() == ""

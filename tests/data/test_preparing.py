import json
import os
import pathlib
import re
import shutil

import numpy as np
import PIL.Image
import pytest

import data
from data import batches, preparing
from data.sources import open_source
from plumbline import UserError


@pytest.fixture
def prepare(image_folder, tmp_path):
    """Prepares the image folder without Beam, and gives the folder that is written."""

    def run(source=None, output=tmp_path / "prepared", **options):
        preparing.prepare(f"folder:{source or image_folder}", output, runner="none", **options)
        return output

    return run


def same(prepared, folder):
    """Asserts that two sets are equal in all that a run sees of them, to the bytes of each image."""
    ours, truth = open_source(prepared), open_source(folder)
    assert (ours.part_names, ours.class_names) == (truth.part_names, truth.class_names)
    for name in truth.part_names:
        part, expected = ours.part(name), truth.part(name)
        np.testing.assert_array_equal(part.labels, expected.labels)
        rows = range(len(expected))
        assert [part.records.read_encoded(row) for row in rows] == [expected.records.read_encoded(row) for row in rows]
    ours, truth = data.load(prepared, seed=3), data.load(folder, seed=3)
    assert (ours.features, ours.fingerprint) == (truth.features, truth.fingerprint)
    assert ours.splits.keys() == truth.splits.keys()
    for name, split in truth.splits.items():
        np.testing.assert_array_equal(ours.splits[name].rows, split.rows)
    for step in range(3):
        batch, expected = (
            batches.TrainBatches(dataset.splits["train"], batch_size=8, seed=3).read(step) for dataset in (ours, truth)
        )
        for key, values in expected.items():
            np.testing.assert_array_equal(batch[key], values, err_msg=key)


def test_a_prepared_folder_gives_the_same_examples(image_folder, prepare, make_config):
    # Images of other types and in a folder below, a grey 16-bit image and one of another size keep their bytes too.
    PIL.Image.new("RGB", (6, 5), (200, 10, 30)).save(image_folder / "train" / "bee" / "a.jpg")
    (image_folder / "train" / "bee" / "below").mkdir()
    PIL.Image.new("RGB", (6, 5), (20, 100, 30)).save(image_folder / "train" / "bee" / "below" / "b.WEBP")
    PIL.Image.new("RGB", (6, 5), (20, 10, 30)).save(image_folder / "train" / "cat" / "c.tiff")
    PIL.Image.fromarray(np.full((5, 6), 4096, np.uint16)).save(image_folder / "train" / "ape" / "z.png")
    PIL.Image.new("RGB", (9, 7), (1, 2, 3)).save(image_folder / "test" / "cat" / "0.png")
    shutil.copytree(image_folder / "test", image_folder / "validation")
    PIL.Image.new("RGB", (6, 5)).save(image_folder / "validation" / "cat" / "1.png")
    fields = {"image_size": 6, "channels": 3, "validation": "split:validation"}
    output = prepare(shards=3)
    same(make_config(source=f"prepared:{output}", **fields), make_config(source=f"folder:{image_folder}", **fields))
    assert [file.name for file in sorted(output.glob("*-train.*"))] == [
        f"plumbline_images-train.array_record-{index:05}-of-00003" for index in range(3)
    ]
    assert len(list(output.glob("*.array_record-*"))) == 9


def test_rows_held_out_are_those_of_the_folder(image_folder, prepare, make_config):
    output = prepare(image_folder / "train")
    same(make_config(source=f"prepared:{output}"), make_config(source=f"folder:{image_folder / 'train'}"))


def test_a_class_that_a_split_lacks_keeps_its_number(image_folder, prepare, make_config):
    shutil.rmtree(image_folder / "test" / "bee")
    source = open_source(make_config(source=f"prepared:{prepare()}"))
    np.testing.assert_array_equal(source.part("test").labels, [0] * 4 + [2] * 4)


def test_tfds_itself_reads_what_was_prepared(prepare, image_folder):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(prepare(shards=2))
    assert builder.info.features["label"].names == ["ape", "bee", "cat"]
    examples = builder.as_data_source(split="train")
    pixels = np.asarray(PIL.Image.open(image_folder / "train" / "bee" / "003.png"))
    np.testing.assert_array_equal(examples[13]["image"], pixels)
    assert examples[13]["label"] == 1


def test_a_relabelled_image_is_seen_by_the_next_preparation(image_folder, prepare, make_config):
    """As many images, of as many bytes: neither labels nor decoded images of the first set are taken for the second."""
    config = make_config(source=f"prepared:{prepare()}")
    data.load(config, seed=0)
    for first, second in (("ape/000.png", "cat/000.png"), ("ape/001.png", "cat/001.png")):
        ours, other = image_folder / "train" / first, image_folder / "train" / second
        kept = ours.read_bytes()
        ours.write_bytes(other.read_bytes())
        other.write_bytes(kept)
    with pytest.raises(UserError, match=r"--output: .* was prepared from other data"):
        prepare()
    prepare(overwrite=True)
    same(config, make_config(source=f"folder:{image_folder}"))


def test_preparing_again_does_nothing(prepare, image_folder, tmp_path):
    output = prepare()
    before = {file.name: file.stat().st_mtime_ns for file in output.iterdir()}
    prepare()
    assert {file.name: file.stat().st_mtime_ns for file in output.iterdir()} == before
    with pytest.raises(UserError, match="with other shards; name a new folder, or --overwrite to delete it"):
        prepare(shards=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "prepared"]


def _cut(image):
    image.write_bytes(image.read_bytes()[:60])


def _empty(image):
    image.write_bytes(b"")


def _dangling(image):
    image.unlink()
    image.symlink_to(image.parent / "gone.png")


@pytest.mark.parametrize("damage", [_cut, _empty, _dangling])
def test_an_unreadable_image_is_named_and_nothing_is_left(damage, image_folder, prepare, tmp_path):
    damage(image_folder / "train" / "bee" / "004.png")
    with pytest.raises(UserError, match=r"--source: .*train/bee/004\.png' cannot be (prepared|read) \(.+\)"):
        prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_unreadable_images_are_counted_and_the_old_set_stays(image_folder, prepare, make_config):
    output = prepare()
    for name in ("train/ape/002.png", "train/cat/009.png", "test/bee/001.png"):
        _cut(image_folder / name)
    with pytest.raises(UserError, match=r"test/bee/001\.png' cannot be prepared \(.*\) and 2 more") as raised:
        prepare(overwrite=True)
    assert "\n" not in str(raised.value)
    assert len(data.load(make_config(source=f"prepared:{output}", validation="none"), seed=0).splits["train"]) == 30


def _make_class(name):
    def make(folder):
        (folder / "train" / name).mkdir()
        shutil.copy(folder / "train" / "ape" / "000.png", folder / "train" / name)

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: (folder / "test").rename(folder / "ALL"), r"--source: the split 'ALL' has a name that TFDS"),
        (
            lambda folder: (folder / "test").rename(folder / "test 2"),
            r"--source: the split 'test 2' has a name that TFDS",
        ),
        (_make_class("bee "), r"--source: the class 'bee ' has a name that TFDS cannot store; rename"),
        (_make_class("b\nee"), r"--source: the class 'b\\nee' has a name that TFDS cannot store; rename"),
        (
            lambda folder: (folder / "train").rename(folder / "x"),
            r"--source: '.*' has test, x but no 'train'; expected",
        ),
        (lambda folder: (folder / "test" / "yak").mkdir(), r"--source: '.*yak' is a class without training data"),
        (shutil.rmtree, r"--source: no such folder '.*images'; expected"),
    ],
)
def test_a_wrong_source_is_an_error(make, message, image_folder, prepare, tmp_path):
    make(image_folder)
    with pytest.raises(UserError, match=message):
        prepare()
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"source": "csv:people.csv"},
            r"--source: 'csv:people.csv' cannot be prepared; only image folders can: write folder:PATH",
        ),
        ({"source": "folder:gs://bucket/images"}, r"--source: 'gs://bucket/images' is a URL; mount it"),
        ({"output": "gs://bucket/set"}, r"--output: 'gs://bucket/set' is a URL; mount it"),
        (
            {"output": "IMAGES/prepared"},
            r"--output: '.*/images/prepared' lies inside the source '.*'; name a folder outside",
        ),
        ({"output": "IMAGES/train/ape/000.png"}, r"--output: '.*' lies inside the source"),
        ({"output": __file__}, r"--output: '.*' is a file; name a folder"),
        (
            {"output": str(pathlib.Path(__file__).parent)},
            r"--output: '.*' is not empty; name a new folder, or --overwrite to",
        ),
        ({"shards": 13}, r"--shards: 13 is more than the 12 images of the split 'test'; give fewer"),
        ({"runner": "DirctRunner"}, r"--runner: unknown name 'DirctRunner'; did you mean 'DirectRunner'\?"),
        ({"options": ["--x=1"]}, r"pipeline options: '--x=1' is for Apache Beam, which --runner=none does not use"),
    ],
)
def test_wrong_arguments_are_an_error_in_one_line(arguments, message, image_folder, tmp_path):
    given = {"source": f"folder:{image_folder}", "output": str(tmp_path / "out"), "runner": "none", **arguments}
    given["output"] = given["output"].replace("IMAGES", str(image_folder))
    with pytest.raises(UserError, match=message) as raised:
        preparing.prepare(**given)
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]
    assert sorted(path.name for path in image_folder.iterdir()) == ["test", "train"]


def _edit(change):
    def edit(folder):
        facts = json.loads((folder / "prepared.json").read_text())
        change(facts)
        (folder / "prepared.json").write_text(json.dumps(facts))

    return edit


def _shard(folder):
    return sorted(folder.glob("*-train.array_record-*"))[1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, r"no such folder '.*prepared'; plumbline prepare --output=.*prepared makes one"),
        (lambda folder: (folder / "prepared.json").unlink(), r"has no prepared.json, so it is not a prepared data set"),
        (
            lambda folder: (folder / "prepared.json").write_bytes(b"\xff"),
            r"prepared.json' cannot be read; prepare the data set",
        ),
        (
            _edit(lambda facts: facts.update(format=0)),
            r"was prepared by another version of Plumbline; prepare it again",
        ),
        (_edit(lambda facts: facts["splits"]["test"].pop("counts")), r"prepared.json' cannot be read"),
        (lambda folder: _shard(folder).unlink(), r"train.array_record-00001-of-00002' is missing; copy or prepare"),
        (
            lambda folder: os.truncate(_shard(folder), 100),
            r"00001-of-00002' has 100 bytes and should have \d+; copy or",
        ),
    ],
)
def test_a_damaged_prepared_data_set_is_an_error(damage, message, prepare, make_config):
    output = prepare(shards=2)
    damage(output)
    with pytest.raises(UserError) as raised:
        data.load(make_config(source=f"prepared:{output}"), seed=0)
    assert re.search(f"^data.source: .*{message}", str(raised.value))


def test_a_prepared_set_has_no_other_paths(prepare, make_config, image_folder):
    with pytest.raises(UserError, match=r"data.test: '.*' is not supported for prepared:.*; write 'split:NAME'"):
        data.load(make_config(source=f"prepared:{prepare()}", test=str(image_folder)), seed=0)

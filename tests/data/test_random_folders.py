"""Random folders of images, written by Pillow and read by us, compared with Pillow's own conversion."""

import io
import os
import pathlib

import numpy as np
import PIL.Image
import pytest

import data
from data import prediction
from tests.data.conftest import write_images

SIZE = (6, 5)
CASES = 100
# For each mode, the types that store it without loss, and options to save it with.
FORMATS = {
    "1": (("png", {}), ("tif", {}), ("BMP", {})),
    "L": (("png", {}), ("bmp", {}), ("tiff", {}), ("png", {"transparency": 17}), ("pgm", {}), ("jpg", {})),
    "LA": (("png", {}), ("tif", {})),
    "P": (("png", {}), ("gif", {}), ("PNG", {"transparency": 3}), ("gif", {"transparency": 2}), ("bmp", {})),
    "RGB": (("PNG", {}), ("bmp", {}), ("webp", {"lossless": True}), ("png", {"transparency": (9, 9, 9)}), ("jfif", {})),
    "RGBA": (("png", {}), ("WebP", {"lossless": True, "exact": True}), ("tiff", {}), ("tga", {}), ("avif", {})),
    "I;16": (("png", {}), ("tif", {}), ("png", {"transparency": 300})),
    "CMYK": (("tif", {}), ("jpeg", {})),
    "YCbCr": (("tif", {}),),
}
NAMES = ("ape", "Bee", "ça", "d e", "0", "10", "train", "名")
IGNORED = (".hidden.png", "._a.png", "notes.txt", "data.CSV", "Thumbs.db", "noending")


def random_image(random: np.random.Generator) -> tuple[PIL.Image.Image, str, dict]:
    """An image of a random mode and content, and the type and options to save it with."""
    mode = random.choice(list(FORMATS))
    ending, options = FORMATS[mode][random.integers(len(FORMATS[mode]))]
    # Few values, so that the transparent one occurs.
    shape = SIZE[::-1] + (() if mode in ("1", "L", "P", "I;16") else (len(PIL.Image.new(mode, (1, 1)).getbands()),))
    if mode == "I;16":
        pixels = random.choice(np.array([0, 255, 300, 4096, 65535], np.uint16), shape)
    else:
        pixels = random.choice(np.array([0, 2, 3, 9, 17, 128, 255], np.uint8), shape)
    if mode == "1":
        return PIL.Image.fromarray(pixels).convert("1"), ending, options
    if mode == "P":
        image = PIL.Image.fromarray(pixels)
        image.putpalette(random.integers(0, 256, 768).tolist())
        return image, ending, options
    if mode in ("CMYK", "YCbCr"):
        return PIL.Image.frombytes(mode, SIZE, pixels.tobytes()), ending, options
    return PIL.Image.fromarray(pixels), ending, options


def convert(path: pathlib.Path) -> np.ndarray:
    """(H, W, 3) of a file, by Pillow's conversions."""
    with PIL.Image.open(path) as image:
        image.load()
    if image.mode == "I;16":
        key = image.info.get("transparency", -1)
        values = np.where(np.asarray(image) == key, 0, np.asarray(image) >> 8).astype(np.uint8)
        return np.stack([values] * 3, axis=-1)
    if image.has_transparency_data:
        black = PIL.Image.new("RGBA", image.size, (0, 0, 0, 255))
        return np.asarray(PIL.Image.alpha_composite(black, image.convert("RGBA")).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def write_part(folder: pathlib.Path, classes: list[str], random: np.random.Generator) -> None:
    """Writes a few images of each class in random folders, among files that are no inputs."""
    for name in classes:
        for number in range(random.integers(2, 7)):
            below = random.choice(["", "", "", "a", "b.png", "a/deeper", "Z"])
            image, ending, options = random_image(random)
            file = folder / name / below / f"{random.integers(100)}-{number}.{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            image.save(file, **options)
        if random.random() < 0.5:
            (folder / name / random.choice(IGNORED)).write_bytes(b"x")


def find_images(folder: pathlib.Path) -> list[tuple[str, pathlib.Path]]:
    """Class and path of each image of a split, in order."""
    endings = {ending.lower() for formats in FORMATS.values() for ending, _ in formats}
    found = [
        pathlib.Path(above, name).relative_to(folder)
        for above, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and name.lower().rpartition(".")[2] in endings
    ]
    return [(path.parts[0], folder / path) for path in sorted(found, key=lambda path: path.parts)]


@pytest.mark.slow
def test_random_folders_are_read_as_pillow_converts_them(tmp_path, make_config):
    for case in range(CASES):
        random = np.random.default_rng(case)
        folder = tmp_path / str(case)
        classes = sorted(random.choice(NAMES, random.integers(2, 5), replace=False).tolist())
        own_validation = random.choice(["", "val", "valid", "validation", "dev"])
        own_test = bool(random.integers(2))
        write_part(folder / "train", classes, random)
        for name in filter(None, [own_validation, "test" if own_test else ""]):
            write_part(folder / name, classes[: random.integers(1, len(classes) + 1)], random)
        config = make_config(source=f"folder:{folder}", channels=3, validation="auto" if own_validation else "none")
        dataset = data.load(config, seed=case)

        assert dataset.features.class_names == tuple(classes), case
        parts = {"train": "train"} | ({"validation": own_validation} if own_validation else {})
        parts |= {"test": "test" if own_test else "train"}
        assert dataset.splits.keys() == parts.keys(), case
        expected = {part: find_images(folder / part) for part in parts.values()}
        for name, part in parts.items():
            split = dataset.splits[name]
            truth = [expected[part][row] for row in split.rows]
            assert [classes[label] for label in split.labels] == [label for label, _ in truth], case
            inputs = split.read(np.arange(len(split)))
            for pixels, (_, path) in zip(inputs, truth, strict=True):
                np.testing.assert_array_equal(pixels, convert(path), err_msg=f"{case} {path}")
        rows = [row for name, part in parts.items() if part == "train" for row in dataset.splits[name].rows]
        assert sorted(rows) == list(range(len(expected["train"]))), case

        chunks = list(prediction.read_inputs(dataset.features, config, [folder / "train"]))
        assert [path for chunk in chunks for path in chunk.names] == [str(path) for _, path in expected["train"]]
        inputs = np.concatenate([chunk.inputs for chunk in chunks])
        train = dataset.splits["train"]
        np.testing.assert_array_equal(inputs[train.rows], train.read(np.arange(len(train))))


@pytest.mark.slow
def test_damaged_images_of_all_types_are_corrupt_or_read_but_never_a_traceback(tmp_path, make_config):
    write_images(tmp_path / "train", per_class=2)
    dataset = data.load(make_config(source=f"folder:{tmp_path / 'train'}", validation="none"), seed=0)
    random = np.random.default_rng(0)
    folder = tmp_path / "damaged"
    folder.mkdir()
    for case in range(300):
        image, ending, options = random_image(random)
        file = io.BytesIO()
        image.save(file, PIL.Image.registered_extensions()[f".{ending.lower()}"], **options)
        content = bytearray(file.getvalue())
        if random.integers(2):
            del content[random.integers(len(content)) :]
        else:
            content[random.integers(len(content))] = random.integers(256)
        (folder / f"{case}.{ending}").write_bytes(content)
    notes = prediction.Notes()
    config = make_config(source="folder:x")
    answered = sum(len(chunk.names) for chunk in prediction.read_inputs(dataset.features, config, [folder], notes))
    assert answered + len(notes.unreadable) == 300
    assert min(answered, len(notes.unreadable)) > 20

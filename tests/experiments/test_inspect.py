import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from reporting.contact_sheet import write_contact_sheet
from tests.conftest import CHECKOUT


@pytest.fixture
def photos(tmp_path):
    """Photos of two classes, with test images that have no labels."""
    random = np.random.default_rng(0)
    for name in ("train/cat", "train/dog", "test"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.webp", lossless=True)
    return tmp_path / "photos"


def test_images_are_shown_on_a_contact_sheet(command, fails, photos, tmp_path):
    config = f"--config=configs/image_folder.py:{photos}"
    printed = command("inspect", config, f"--output={tmp_path / 'sheet.png'}").stdout
    assert "data: classification of 'label' into 2 classes (cat, dog); 12 train, 1 validation, 3 test\n" in printed
    assert "left out: 8 files in 'test' without class folders (plumbline predict takes them), such as" in printed
    assert "The first of the training batches of 12:\ninputs               uint8 (12, 32, 32, 3)  " in printed
    with PIL.Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 104 + 8, 3 * 122 + 8)
    assert fails("inspect", config, "--output=sheet.jpg").startswith("--output: 'sheet.jpg' does not end in .png")


def test_a_table_is_described_in_full(command, fails):
    printed = command("inspect", "--config=configs/diabetes_mlp.py").stdout
    assert "; regression of 'target'\n" in printed.splitlines(keepends=True)[0]
    assert "\n  splits: 301 train, 53 validation, 88 test\n" in printed
    assert "\ninput: bmi  numeric, " in printed
    assert "\nThe first of the training batches of " in printed
    message = fails("inspect", "--config=configs/diabetes_mlp.py", "--output=sheet.png")
    assert message == "--output: is for images, but the inputs are tables; leave it out"


def test_each_image_of_a_sheet_has_its_place(tmp_path):
    images = np.zeros((5, 96, 96, 1), np.uint8) + (40 * np.arange(1, 6, dtype=np.uint8))[:, None, None, None]
    write_contact_sheet(tmp_path / "sheet.png", images, [*"abcd", "a label that is far too long for its image"])
    sheet = np.asarray(PIL.Image.open(tmp_path / "sheet.png"))
    for index in range(5):
        row, column = divmod(index, 3)
        place = sheet[8 + 122 * row : 104 + 122 * row, 8 + 104 * column : 104 + 104 * column]
        np.testing.assert_array_equal(place, 40 * (index + 1))
    captions = sheet[104:122]
    assert (captions < 128).any()


def test_a_command_that_is_run_as_a_file_finds_the_standard_module(tmp_path):
    """Its folder is first on the import path then."""
    (tmp_path / "probe.py").write_text("import inspect; print(inspect.getsource(inspect.unwrap)[:10])")
    code = f"import sys; sys.path[0] = {str(CHECKOUT / 'experiments')!r}; import runpy; runpy.run_path('probe.py')"
    finished = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.stdout == "def unwrap\n", finished.stderr

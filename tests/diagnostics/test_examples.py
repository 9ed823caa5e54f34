import numpy as np
import pytest

from configs import defaults
from diagnostics.examples import open_examples
from plumbline import UserError
from tests.conftest import POEM


def test_examples_are_those_of_the_splits_in_any_order_and_in_blocks():
    config = defaults.get_config().data
    config.source = "digits"
    examples = open_examples(config, seed=0)
    assert len(examples) == 1797
    assert [len(examples.positions(name)) for name in ("train", "validation", "test", "other")] == [1276, 139, 382, 0]
    positions = np.array([1796, 0, 1300, 1])
    expected = np.concatenate([split.read(np.arange(len(split))) for split in examples.splits.values()])
    np.testing.assert_array_equal(examples.read(positions), expected[positions])
    blocks = list(examples.blocks(np.arange(len(examples)), 500))
    assert [len(own) for own, _ in blocks] == [500, 500, 500, 297]
    np.testing.assert_array_equal(np.concatenate([inputs for _, inputs in blocks]), expected)
    assert examples.split[1796] == "test"
    assert examples.name(0) == f"train: row {examples.rows[0]}"


def test_texts_are_read_as_they_are(tmp_path):
    for number, verse in enumerate(POEM.splitlines() * 4):
        folder = tmp_path / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02}.txt").write_text(verse or "Blake")
    config = defaults.get_config().data
    config.source, config.tokenizer, config.text_length = f"folder:{tmp_path}", "characters", 8
    examples = open_examples(config, seed=0)
    texts = {examples.text(position) for position in range(len(examples))}
    assert texts == {verse or "Blake" for verse in POEM.splitlines()}
    assert examples.name(0).startswith("train: ")


def test_the_windows_of_one_text_are_no_rows(tmp_path):
    (tmp_path / "poem.txt").write_text(POEM * 50)
    config = defaults.get_config().data
    config.source, config.tokenizer, config.text_length = f"text:{tmp_path / 'poem.txt'}", "characters", 8
    with pytest.raises(UserError, match=r"data\.source: is one text for language modelling, .* name texts with labels"):
        open_examples(config, seed=0)

import numpy as np
import pytest

from configs import defaults
from data import RunAssets, load
from data.row_lists import FILE, RowLists, read_lists, write
from plumbline import UserError


@pytest.fixture
def config():
    config = defaults.get_config().data
    config.source = "sklearn:iris"
    return config


@pytest.fixture
def part(config):
    return load(config, seed=0).parts["train"]


@pytest.fixture
def audit(config, part, tmp_path):
    """An audit that finds rows 0 to 49 doubtful, and row 149 twice over."""
    factors = np.where(np.arange(150) < 50, 0.25, 1).astype(np.float32)
    findings = {"doubtful": RowLists(weights={part: factors}), "twice": RowLists(drop={part: np.array([149])})}
    findings["both"] = RowLists(drop={part: np.arange(100, 150)}, weights={part: factors})
    write(tmp_path / FILE, findings, [part])
    config.findings = str(tmp_path)
    return tmp_path


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_left_out_of_training_and_validation_and_the_test_keeps_all(config, audit, seed):
    before = load(config, seed=seed).splits
    config.drop = "findings:twice, both"
    after = load(config, seed=seed).splits
    for name in ("train", "validation"):
        np.testing.assert_array_equal(after[name].rows, before[name].rows[before[name].rows < 100])
    np.testing.assert_array_equal(after["test"].rows, before["test"].rows)


def test_lists_of_a_part_with_a_slash_in_its_fingerprint_are_found(config, tmp_path):
    config.source = "digits"
    before = load(config, seed=0)
    part, rows = before.parts["train"], before.splits["train"].rows
    assert "/" in part
    lists = RowLists(drop={part: rows[:3]}, weights={part: np.full(rows.max() + 1, 0.5, np.float32)})
    write(tmp_path / FILE, {"some": lists}, before.parts.values())
    config.findings, config.drop, config.weights = str(tmp_path), "findings:some", "findings:some"
    split = load(config, seed=0).splits["train"]
    np.testing.assert_array_equal(split.rows, rows[3:])
    assert (split.weights == 0.5).all()


def test_weights_are_those_of_training_rows_and_multiply(config, audit):
    config.weights = "findings:doubtful,both"
    splits = load(config, seed=0).splits
    np.testing.assert_array_equal(splits["train"].weights, np.where(splits["train"].rows < 50, 0.0625, 1))
    for name in ("validation", "test"):
        assert (splits[name].weights == 1).all()


def test_the_rows_are_part_of_what_the_data_are(config, audit):
    plain = load(config, seed=0)
    config.drop = "findings:twice"
    fewer = load(config, seed=0)
    config.drop, config.weights = "", "findings:doubtful"
    assert len({plain.fingerprint, fewer.fingerprint, load(config, seed=0).fingerprint}) == 3
    assert plain.row_lists.digest() == ""


def test_what_a_run_keeps_takes_the_place_of_the_audit(config, audit):
    config.drop, config.weights = "findings:twice", "findings:doubtful"
    expected = load(config, seed=0)
    expected.row_lists.save(audit / "kept.npz")
    (audit / FILE).unlink()
    found = load(config, seed=0, assets=RunAssets(tokenizer="", row_lists=RowLists.load(audit / "kept.npz")))
    assert found.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(found.splits["train"].rows, expected.splits["train"].rows)
    np.testing.assert_array_equal(found.splits["train"].weights, expected.splits["train"].weights)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"drop": "twice"}, r"data\.drop: 'twice' is not valid; write 'findings:NAME'"),
        ({"drop": "findings:twise"}, r"data\.drop: unknown name 'twise'; did you mean 'twice'\? known: both, twice"),
        ({"weights": "findings:twice"}, r"data\.weights: unknown name 'twice'; known: both, doubtful"),
        ({"drop": "findings:twice", "findings": ""}, r"data\.drop: .* audit; .* data\.findings"),
        ({"drop": "findings:twice", "findings": "nowhere"}, r"data\.findings: no audit in 'nowhere'"),
        ({"drop": "findings:twice", "source": "sklearn:wine"}, r"is an audit of data other than 'sklearn:wine'"),
    ],
)
def test_lists_that_are_not_there_are_refused(config, audit, fields, message):
    config.update(fields)
    with pytest.raises(UserError, match=message):
        load(config, seed=0)


def test_a_damaged_audit_is_named(config, audit):
    (audit / FILE).write_bytes((audit / FILE).read_bytes()[:100])
    config.drop = "findings:twice"
    with pytest.raises(UserError, match=rf"data\.findings: '.*{FILE}' is missing or damaged"):
        load(config, seed=0)


def test_any_damaged_byte_of_an_audit_is_an_error_or_harmless(config, audit):
    config.drop = "findings:twice"
    sound, whole, reported = (audit / FILE).read_bytes(), read_lists(config).digest(), 0
    for place in range(0, len(sound), 3):
        (audit / FILE).write_bytes(sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :])
        try:
            # Dates in the archive, for example, are not looked at.
            assert read_lists(config).digest() == whole
        except UserError as error:
            reported += f"{FILE}' is missing or damaged" in str(error)
    assert reported > len(sound) / 6


def test_arrays_of_something_else_are_no_lists(config, audit):
    config.drop = "findings:twice"
    for write_something in (lambda file: np.save(file, np.arange(3)), lambda file: np.savez(file, x=np.arange(3))):
        with (audit / FILE).open("wb") as file:
            write_something(file)
        with pytest.raises(UserError, match=rf"data\.findings: '.*{FILE}' is missing or damaged .*; make it again"):
            read_lists(config)


def test_a_list_that_leaves_nothing_is_refused(config, audit, part):
    write(audit / FILE, {"all": RowLists(drop={part: np.arange(150)})}, [part])
    config.drop = "findings:all"
    with pytest.raises(UserError, match=r"data\.drop: leaves no row in the train split"):
        load(config, seed=0)

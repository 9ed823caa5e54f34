import jax
import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

import data
from data import preprocessing
from data.features import MISSING, UNSEEN, Column, Features
from tests.data.conftest import write_images

_TABLE = Features(
    kind="table",
    shape=(4,),
    dtype="float32",
    task="regression",
    columns=(
        Column(name="a", kind="numeric", has_missing=True),
        Column(name="b", kind="numeric"),
        Column(name="c", kind="categorical", categories=("x", "y", "z")),
        Column(name="d", kind="categorical", categories=("u",), has_missing=True),
    ),
)


def _rows(seed=0, num_rows=50):
    random = np.random.default_rng(seed)
    rows = np.stack([random.normal(5, 3, num_rows), np.full(num_rows, 7.0)], axis=1)
    rows[::7, 0] = np.nan
    codes = np.stack([random.integers(2, 5, num_rows), random.integers(1, 3, num_rows)], axis=1)
    return np.concatenate([rows, codes], axis=1).astype(np.float32)


def test_tables_are_filled_and_standardised_as_by_sklearn():
    train, test = _rows(), _rows(1)
    fitted = preprocessing.fit(_TABLE, train, train[:, 1], normalize="fitted")
    actual = jax.jit(lambda fitted, rows: preprocessing.apply(fitted, _TABLE, rows))(fitted, test)
    imputer = SimpleImputer(strategy="median").fit(train[:, :2])
    scaler = StandardScaler().fit(imputer.transform(train[:, :2]))
    np.testing.assert_allclose(actual[:, :2], scaler.transform(imputer.transform(test[:, :2])), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(actual[:, 2], np.isnan(test[:, 0]))
    np.testing.assert_array_equal(actual[:, 3:], test[:, 2:])
    assert actual.shape[1:] == _TABLE.input_shape
    assert (fitted["label_mean"], fitted["label_std"]) == (7, 1)


def test_codes_that_no_row_fitted_on_has_go_to_slot_0():
    train = _rows()
    train = train[(train[:, 2] != 3) & (train[:, 3] != MISSING)]
    fitted = preprocessing.fit(_TABLE, train, train[:, 1], normalize="none")
    codes = np.array([[UNSEEN, 2], [3, MISSING], [4, UNSEEN]], np.float32)
    rows = np.concatenate([np.zeros((3, 2), np.float32), codes], axis=1)
    np.testing.assert_array_equal(preprocessing.apply(fitted, _TABLE, rows)[:, 3:], [[0, 2], [0, 0], [4, 0]])


@pytest.mark.parametrize("channels", [1, 3])
def test_images_get_zero_mean_and_unit_deviation_by_channel(channels):
    features = Features(
        kind="image", shape=(4, 5, channels), dtype="uint8", task="classification", class_names=("a", "b")
    )
    images = np.random.default_rng(0).integers(0, 200, (3000, 4, 5, channels), dtype=np.uint8)
    fitted = preprocessing.fit(features, images, np.zeros(3000, np.int32), normalize="fitted")
    np.testing.assert_allclose(fitted["mean"], (images / 255).mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(fitted["std"], (images / 255).std(axis=(0, 1, 2)), rtol=1e-6)
    applied = np.asarray(preprocessing.apply(fitted, features, images))
    np.testing.assert_allclose(applied.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(applied.std(axis=(0, 1, 2)), 1, atol=1e-4)


def test_signed_images_lie_between_minus_one_and_one():
    features = Features(kind="image", shape=(1, 2, 1), dtype="uint8", task="classification", class_names=("a", "b"))
    image = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)
    fitted = preprocessing.fit(features, image, np.zeros(1, np.int32), normalize="signed")
    np.testing.assert_allclose(preprocessing.apply(fitted, features, image).ravel(), [-1, 1], atol=1e-6)


def test_test_and_validation_rows_do_not_move_what_is_fitted_on_tables(tmp_path, make_config):
    def fitted(change):
        lines = ["x,c,y", *(f"{index},{'kl'[index % 2]},{index}.5" for index in range(100))]
        for row in change:
            lines[1 + row] = f"{row * 1e6},new,{row * -1e6}"
        (tmp_path / "a.csv").write_text("\n".join(lines))
        return data.load(make_config(source=f"csv:{tmp_path / 'a.csv'}", target="y"), seed=0)

    plain = fitted([])
    held_out = np.concatenate([plain.splits[name].rows for name in ("validation", "test")])
    changed = fitted(held_out.tolist())
    assert changed.features == plain.features
    for name, array in plain.preprocessing.items():
        np.testing.assert_array_equal(changed.preprocessing[name], array)
    moved = fitted(plain.splits["train"].rows[:5].tolist())
    assert not np.array_equal(moved.preprocessing["mean"], plain.preprocessing["mean"])


@pytest.mark.parametrize("cache_limit_gib", [0.0, 8.0])
def test_test_and_validation_rows_do_not_move_what_is_fitted_on_images(tmp_path, make_config, cache_limit_gib):
    write_images(tmp_path / "a", 20)
    config = make_config(source=f"folder:{tmp_path / 'a'}", cache_limit_gib=cache_limit_gib)
    plain = data.load(config, seed=0)
    train = plain.splits["train"]
    expected = (train.read(np.arange(len(train))) / 255).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(plain.preprocessing["mean"], expected, rtol=1e-6)

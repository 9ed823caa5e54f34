"""Position embeddings on other grids, against JAX's own resizing and against closed forms."""

import jax
import numpy as np
import pytest

from models.pretrained import positions
from plumbline import UserError

GRIDS = [(3, 3, 5, 7), (7, 7, 4, 3), (2, 5, 5, 2)]


def table(rows, columns, width=4):
    return np.random.default_rng(0).normal(size=(rows, columns, width)).astype(np.float32)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("method", "jax_method", "antialias"), [("bilinear", "linear", False), ("bicubic, antialiased", "cubic", True)]
)
def test_resizing_equals_that_of_jax(grid, method, jax_method, antialias):
    rows, columns, *new = grid
    expected = jax.image.resize(table(rows, columns), (*new, 4), jax_method, antialias=antialias)
    # Inside only: at the edges JAX leaves out what lies outside, PyTorch's bilinear repeats the edge.
    inside = np.s_[1:-1, 1:-1] if jax_method == "linear" else np.s_[:, :]
    actual = positions.resize(table(rows, columns), tuple(new), method)
    np.testing.assert_allclose(actual[inside], expected[inside], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", positions.METHODS)
def test_what_is_constant_stays_so_and_the_own_grid_changes_nothing(method):
    constant = np.full((3, 4, 2), 0.7, np.float32)
    np.testing.assert_allclose(positions.resize(constant, (6, 5), method), 0.7, rtol=1e-6)
    np.testing.assert_allclose(positions.resize(table(3, 4), (3, 4), method), table(3, 4), rtol=1e-6, atol=1e-7)


def test_bicubic_weights_are_those_of_keys_with_a_of_three_quarters():
    # From 4 to 8 points the first new one that has all its taps lies 0.25 to the right of point 1.
    impulses = np.eye(4, dtype=np.float32)[:, None, :]
    weights = positions.resize(impulses, (8, 1), "bicubic")[3, 0]
    a, t = -0.75, 0.25
    expected = [
        a * (t + 1) ** 3 - 5 * a * (t + 1) ** 2 + 8 * a * (t + 1) - 4 * a,
        (a + 2) * t**3 - (a + 3) * t**2 + 1,
        (a + 2) * (1 - t) ** 3 - (a + 3) * (1 - t) ** 2 + 1,
        a * (2 - t) ** 3 - 5 * a * (2 - t) ** 2 + 8 * a * (2 - t) - 4 * a,
    ]
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_tokens_before_the_patches_keep_their_positions():
    source = table(1, 10)[0]
    fitted, grid = positions.fit(source, (4, 4), 1, "bicubic")
    assert grid == (3, 3)
    assert fitted.shape == (17, 4)
    np.testing.assert_array_equal(fitted[0], source[0])
    expected = positions.resize(source[1:].reshape(3, 3, 4), (4, 4), "bicubic").reshape(16, 4)
    np.testing.assert_array_equal(fitted[1:], expected)


def test_a_class_token_without_a_position_gets_zeros():
    source = table(1, 9)[0]
    fitted, _ = positions.fit(source, (3, 3), 1, "bicubic")
    np.testing.assert_array_equal(fitted, np.concatenate([np.zeros((1, 4)), source]))


def test_a_grid_that_is_not_square_is_the_models_own_or_none():
    source = table(1, 10)[0]
    assert positions.fit(source, (2, 5), 0, "bicubic")[0] is source
    # Nine patches in one row here, but three by three where they come from.
    assert positions.fit(source[1:], (1, 9), 0, "bicubic")[1] == (3, 3)
    assert positions.fit(source[1:], (1, 9), 0, "bicubic", square=False)[0].shape == (9, 4)
    with pytest.raises(UserError, match="10 position embeddings do not form a square grid of patches"):
        positions.fit(source, (3, 4), 0, "bicubic")

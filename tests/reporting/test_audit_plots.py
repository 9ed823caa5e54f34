"""Plots of findings, and the bins that they share with the figures."""

import io

import numpy as np
import pytest
from PIL import Image

from diagnostics.finding import Curves, Finding, Histogram
from reporting import audit_plots
from reporting.bins import bin_values


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 1.0],
        [0.0],
        [-3e38, 3e38],
        [1e300, -1.7e308, 1.7e308],
        [1e16, 1e16 + 2],
        [1.0, 1.0 + 1e-16, np.nan, np.inf],
        list(range(1000)),
    ],
)
def test_every_finite_value_is_in_a_bin(values):
    edges, counts = bin_values({"a": np.array(values), "b": np.zeros(0)})
    assert counts["a"].sum() == np.isfinite(values).sum()
    assert not counts["b"].any()
    assert (np.diff(edges) >= 0).all()
    assert np.isfinite(edges).all()


def test_few_whole_numbers_have_a_bin_each_and_nothing_has_none():
    edges, counts = bin_values({"a": np.array([2, 2, 5]), "b": np.array([3.0])})
    np.testing.assert_array_equal(edges, [1.5, 2.5, 3.5, 4.5, 5.5])
    np.testing.assert_array_equal(counts["a"], [2, 0, 0, 1])
    np.testing.assert_array_equal(counts["b"], [0, 1, 0, 0])
    edges, counts = bin_values({"a": np.array([np.nan])})
    assert len(edges) == len(counts["a"]) == 0


def pixels(png):
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGBA")).astype(int)


def brightness(png):
    """Of what is drawn: from black, 0, to white, 255."""
    found = pixels(png)
    return found[found[..., 3] > 200][:, :3].mean(axis=1)


def test_a_histogram_is_drawn_for_light_and_for_dark_pages_with_its_marks():
    values = {"train": np.random.default_rng(0).normal(size=500)}
    without = audit_plots.draw(Histogram(title="a", label="deviations", values=values))
    marked = audit_plots.draw(Histogram(title="a", label="deviations", values=values, marks={"threshold": 2.0}))
    assert brightness(without.light).min() < 50
    assert brightness(without.dark).min() > 60
    assert (pixels(marked.light)[..., 3] > 200).sum() > (pixels(without.light)[..., 3] > 200).sum() + 300
    assert marked.alt == "Histogram of deviations: train, threshold at 2"


@pytest.mark.parametrize(
    "evidence",
    [
        Histogram(title="a", label="$\\frac{", values={"_c": np.ones(2), "\u65e5\u672c": np.ones(2)}),
        Histogram(title="a", label="b", values={"c": np.zeros(0), "d": np.array([1.0, np.nan])}, marks={"e": np.nan}),
        Curves(title="a", x_label="b", y_label="c", lines={"x" * 99: np.array([[1.0, 1.0, np.nan, np.nan]])}),
        Curves(
            title="a",
            x_label="b",
            y_label="c",
            lines={"d": np.array([[0.0, 1.0], [np.nan, 1.0]]), "e": np.array([[0.0, 1.0], [1.0, 2.0]])},
            log_x=True,
        ),
    ],
)
def test_odd_evidence_is_drawn_without_a_warning(evidence):
    assert audit_plots.has_points(evidence)
    picture = audit_plots.draw(evidence)
    assert min(pixels(picture.light).shape[:2]) > 200


@pytest.mark.parametrize(
    "evidence",
    [
        Histogram(title="a", label="b", values={}),
        Histogram(title="a", label="b", values={"c": np.full(3, np.nan)}, marks={"d": 1.0}),
        Curves(title="a", x_label="b", y_label="c", lines={}),
        Curves(title="a", x_label="b", y_label="c", lines={"d": np.zeros((0, 2))}),
        Curves(title="a", x_label="b", y_label="c", lines={"d": np.array([[0.0, 1.0]])}, log_x=True),
    ],
)
def test_nothing_is_not_drawn(evidence):
    finding = Finding(name="it", challenge="fit", severity="low", message="So it is.", evidence=(evidence,))
    assert audit_plots.draw_all([finding]) == {}

import numpy as np
from PIL import Image

from diagnostics import learning_curve
from reporting import population_plots


def dark_share(path):
    with Image.open(path) as image:
        return float((np.asarray(image.convert("L")) < 128).mean()), image.size


def test_a_table_is_drawn_larger_for_more_rows(tmp_path):
    head = ["variant", "accuracy"]
    population_plots.draw_table(tmp_path, "a", "title", head, [["baseline", "0.9"]])
    population_plots.draw_table(tmp_path, "b", "title", head, [["baseline", "0.9"]] * 6)
    (dark, small), (_, large) = dark_share(tmp_path / "a.png"), dark_share(tmp_path / "b.png")
    assert dark > 0.005
    assert large[1] > small[1] + 100


def test_a_learning_curve_is_drawn_with_its_target(tmp_path):
    sizes = np.repeat(100 * 2 ** np.arange(5), 2)
    curve = learning_curve.fit(sizes, 2.0 * sizes**-0.5 * np.random.default_rng(0).normal(1, 0.02, 10), draws=200)
    for name, target in (("without", None), ("with", 0.05)):
        population_plots.draw_learning_curve(tmp_path, name, curve, label="error", title="a title", target=target)
    with Image.open(tmp_path / "with.png") as image:
        red, green, _ = np.moveaxis(np.asarray(image.convert("RGB")).astype(int), -1, 0)
        assert (red - green > 100).sum() > 200
    with Image.open(tmp_path / "without.png") as image:
        red, green, _ = np.moveaxis(np.asarray(image.convert("RGB")).astype(int), -1, 0)
        assert (red - green > 100).sum() == 0

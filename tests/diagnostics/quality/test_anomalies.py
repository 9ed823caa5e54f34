import pathlib
import re

import numpy as np
import PIL.Image
import pytest

from configs import defaults
from diagnostics.examples import open_examples
from diagnostics.material import Material
from diagnostics.quality import anomalies, corrupt_examples, impossible_values, outliers
from tests.conftest import POEM

NAMES = ["corrupt_examples", "odd_examples", "outliers", "impossible_values"]


def opened(source, **fields):
    config = defaults.get_config().data
    config.source = source
    for name, value in fields.items():
        config[name] = value
    return open_examples(config, seed=0)


def found(examples):
    material = Material(config=defaults.get_config(), examples=examples)
    modules = (corrupt_examples, anomalies, outliers, impossible_values)
    findings = {finding.name: finding for module in modules for finding in module.find(material)}
    assert list(findings) == NAMES
    return findings


def table(path, columns):
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    pathlib.Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return opened(f"csv:{path}", target="y", test="20 percent")


def impossible(path, **columns):
    size = len(next(iter(columns.values())))
    return found(table(path, {**columns, "y": ["a", "b"] * (size // 2)}))["impossible_values"]


def pictures(root, count=60):
    """Noise about a brightness that differs from image to image, in train/ and test/, two classes."""
    rng = np.random.default_rng(0)
    for split, images in (("train", count), ("test", count // 2)):
        for index in range(images):
            folder = root / split / "ab"[index % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.normal(rng.uniform(100, 160), 30, (16, 16)).clip(0, 255).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(folder / f"{index:03}.png")
    return root


def names(examples, rows):
    return [pathlib.Path(examples.name(cluster[0]).split("'")[1]).name for cluster in rows.clusters]


def by_title(finding):
    return {each.title: each for each in finding.evidence}


def grey(level):
    return np.full((16, 16), level, np.uint8)


@pytest.mark.parametrize("limit", [8.0, 0.0])
def test_corrupt_images_are_found_and_only_training_drops_them(tmp_path, limit):
    """Whether the images are kept in a cache, or decoded each time."""
    root = pictures(tmp_path)
    for name in ("train/b/001.png", "test/a/002.png"):
        (root / name).write_bytes((root / name).read_bytes()[:60])
    examples = opened(
        f"folder:{root}", max_corrupt=5, cache_limit_gib=limit, cache_dir=str(tmp_path / "cache"), validation="none"
    )
    findings = found(examples)
    finding = findings["corrupt_examples"]
    assert finding.measures[0].value == 2 / 90
    assert finding.severity == "medium"
    assert sorted(names(examples, finding.evidence[0])) == ["001.png", "002.png"]
    assert [examples.name(position).split("/")[-1] for position in finding.drop] == ["001.png'"]
    assert finding.remedies[1].overrides == {"data.drop": "findings:corrupt_examples"}
    # The zeros in their place are not reported a second time.
    assert findings["odd_examples"].severity == "none"


def test_blank_dark_bright_and_misshapen_images_are_found(tmp_path):
    root = pictures(tmp_path)
    rng = np.random.default_rng(1)
    planted = {
        "x_blank": grey(128),
        "x_black": grey(0),
        "x_faint": (grey(120) + rng.integers(0, 6, (16, 16))).astype(np.uint8),
        "x_dark": rng.integers(0, 20, (16, 16)).astype(np.uint8),
        "x_bright": rng.integers(236, 256, (16, 16)).astype(np.uint8),
        "x_tiny": rng.normal(130, 30, (3, 3)).clip(0, 255).astype(np.uint8),
        "x_wide": rng.normal(130, 30, (16, 48)).clip(0, 255).astype(np.uint8),
    }
    for name, pixels in planted.items():
        PIL.Image.fromarray(pixels).save(root / "train" / "a" / f"{name}.png")
    examples = opened(f"folder:{root}", image_size=16, validation="none", cache_dir=str(tmp_path / "cache"))
    finding = found(examples)["odd_examples"]
    rows = by_title(finding)
    expected = {
        "blank": ["x_black.png", "x_blank.png"],
        "nearly constant": ["x_faint.png"],
        "much darker than the others": ["x_dark.png"],
        "much brighter than the others": ["x_bright.png"],
        "of an unusual size": ["x_tiny.png"],
        "of an unusual shape": ["x_wide.png"],
    }
    assert {title: names(examples, rows[f"Examples that are {title}"]) for title in expected} == expected
    assert finding.severity == "medium"
    assert finding.measures[0].value == 3 / 97
    assert [examples.name(position).split("/")[-1] for position in finding.drop] == ["x_black.png'", "x_blank.png'"]


def test_a_set_of_dark_images_has_no_anomalies(tmp_path):
    rng = np.random.default_rng(2)
    for index in range(60):
        folder = tmp_path / "train" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.normal(rng.uniform(5, 25), 4, (16, 16)).clip(0, 255).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{index:02}.png")
    findings = found(opened(f"folder:{tmp_path}", cache_dir=str(tmp_path / "cache")))
    assert findings["odd_examples"].severity == "none"


def verses(root, extra=()):
    for index, verse in enumerate([line for line in POEM.splitlines() if line] * 8):
        folder = root / "train" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index:02}.txt").write_text(verse, encoding="utf-8")
    for name, text in extra:
        (root / "train" / "a" / f"{name}.txt").write_text(text, encoding="utf-8")
    return opened(f"folder:{root}", tokenizer="characters", text_length=64, validation="none", test="20 percent")


def test_anomalous_texts_are_found(tmp_path):
    examples = verses(
        tmp_path,
        [("x_empty", " . "), ("x_short", "Tyger"), ("x_long", POEM * 3), ("x_signs", "#### ==== 1234 |||| >>>> ////")],
    )
    finding = found(examples)["odd_examples"]
    rows = by_title(finding)
    expected = {
        "nearly empty": ["x_empty.txt"],
        "very short": ["x_short.txt"],
        "very long": ["x_long.txt"],
        "mostly not letters": ["x_signs.txt"],
    }
    assert {title: names(examples, rows[f"Examples that are {title}"]) for title in expected} == expected
    assert finding.measures[0].value == 2 / 68
    assert "4 texts of 68 are anomalous" in finding.message


def test_verses_are_neither_anomalous_nor_truncated(tmp_path):
    finding = found(verses(tmp_path))["odd_examples"]
    assert finding.severity == "none"
    assert "0.0% of the texts are longer than the 64 tokens" in finding.message


def test_truncated_texts_are_counted_as_the_characters_say(tmp_path):
    texts = [line for line in POEM.splitlines() if line]
    verses(tmp_path)
    examples = opened(f"folder:{tmp_path}", tokenizer="characters", text_length=12, validation="none")
    finding = found(examples)["odd_examples"]
    lost = np.mean([1 - 12 / len(text) for text in texts])
    measures = {measure.name: measure.value for measure in finding.measures}
    assert measures["texts that are truncated"] == 1
    np.testing.assert_allclose(measures["tokens of a truncated text that are not read"], lost)
    assert finding.severity == ("medium" if lost >= 0.5 else "low")
    assert finding.remedies[0].overrides == {"data.text_length": 48}


def test_rows_far_from_all_others_are_found_though_each_of_their_values_is_usual(tmp_path):
    rng = np.random.default_rng(3)
    x = rng.normal(size=400)
    columns = {"x": x, "twice": 2 * x + rng.normal(size=400) * 0.05, "other": rng.normal(size=400)}
    far = [10, 120, 230]
    columns["twice"][far] = -2 * np.where(x[far] > 0, 1, -1) * np.array([2.0, 2.2, 2.4])
    columns["x"][far] = np.where(x[far] > 0, 1, -1) * np.array([2.0, 2.2, 2.4])
    assert np.abs(columns["twice"]).argmax() not in far
    examples = table(tmp_path / "t.csv", {**columns, "y": ["a", "b"] * 200})
    finding = found(examples)["outliers"]
    worst = examples.rows[[cluster[0] for cluster in finding.evidence[0].clusters]]
    assert set(far) <= set(worst.tolist())
    assert finding.evidence[0].total <= len(far) + 2
    assert finding.severity == "low"
    assert set(examples.split[finding.drop]) == {"train"}
    assert set(examples.rows[finding.drop]) <= set(worst.tolist())


def test_a_picture_unlike_all_others_is_an_outlier(tmp_path):
    root = pictures(tmp_path, 80)
    stripes = np.tile(np.array([0, 255], np.uint8).repeat(8), (16, 1))
    PIL.Image.fromarray(stripes).save(root / "train" / "a" / "x.png")
    examples = opened(f"folder:{root}", validation="none", cache_dir=str(tmp_path / "cache"))
    finding = found(examples)["outliers"]
    assert names(examples, finding.evidence[0]) == ["x.png"]


def test_a_handful_of_far_rows_alike_do_not_hide_each_other(tmp_path):
    rng = np.random.default_rng(4)
    points = rng.normal(size=(300, 3))
    points[:4] += 40
    columns = {f"x{index}": points[:, index] for index in range(3)}
    finding = found(table(tmp_path / "t.csv", {**columns, "y": ["a", "b"] * 150}))["outliers"]
    assert finding.evidence[0].total == 4
    assert finding.severity == "medium"


@pytest.mark.parametrize("dimensions", [1, 2, 6])
def test_of_normal_rows_hardly_any_is_far(tmp_path, dimensions):
    rng = np.random.default_rng(dimensions)
    points = rng.normal(size=(600, dimensions)) @ rng.normal(size=(dimensions, dimensions))
    columns = {f"x{index}": points[:, index] for index in range(dimensions)}
    finding = found(table(tmp_path / "t.csv", {**columns, "y": ["a", "b"] * 300}))["outliers"]
    assert finding.measures[1].value <= 0.001
    assert finding.measures[0].value <= 0.005


def test_a_row_of_categories_that_are_all_rare_is_far(tmp_path):
    rng = np.random.default_rng(10)
    columns = {f"c{index}": rng.choice(list("abcdefgh"), 400) for index in range(6)}
    for values in columns.values():
        values[33] = "z"
    examples = table(tmp_path / "t.csv", {**columns, "y": ["a", "b"] * 200})
    finding = found(examples)["outliers"]
    assert [examples.rows[cluster[0]] for cluster in finding.evidence[0].clusters] == [33]


@pytest.mark.parametrize("code", [-999, 9999, 99999, -32768, 1e20, -1])
def test_codes_for_missing_are_found_and_named_as_such(tmp_path, code):
    rng = np.random.default_rng(5)
    counts, coded = rng.poisson(20, 400), np.arange(400) % 40 == 3
    clean = impossible(tmp_path / "clean.csv", counts=counts)
    assert clean.severity == "none"
    finding = impossible(tmp_path / "t.csv", counts=np.where(coded, code, counts).astype(object))
    assert finding.severity == "medium"
    assert finding.measures[0].value == coded.mean()
    (row,) = finding.evidence[0].rows
    np.testing.assert_allclose(float(row[1]), code, rtol=1e-6)
    assert row[2] == coded.sum()
    assert list(finding.remedies[1].overrides) == ["data.missing_values"]
    np.testing.assert_allclose(float(finding.remedies[1].overrides["data.missing_values"][0]), code, rtol=1e-6)


def test_codes_of_a_family_and_fill_values_are_all_found(tmp_path):
    values = np.random.default_rng(6).normal(50, 10, 400).round(2)
    values[::50], values[1::50] = -999, -998
    values[2] = 5e20
    finding = impossible(tmp_path / "t.csv", x=values)
    rows = {row[1]: row[2] for row in finding.evidence[0].rows}
    assert rows.pop("-999") == rows.pop("-998") == 8
    assert list(rows.values()) == [1]
    assert re.search(
        r"^'x' is -99[89] in 8 rows: .* Also suspicious: -99[89] in 'x', 5.*e\+20 in 'x'\. Read as", finding.message
    )


def test_values_below_zero_are_reported_of_counts_and_not_of_signed_numbers(tmp_path):
    rng = np.random.default_rng(7)
    counts = rng.poisson(3, 1000)
    counts[[5, 50]] = [-2, -4]
    finding = impossible(tmp_path / "counts.csv", visits=counts)
    assert finding.severity == "low"
    assert "below zero in a column of counts" in finding.message
    degrees = rng.normal(12, 5, 1000).round().astype(int)
    assert (degrees < 0).any()
    assert impossible(tmp_path / "degrees.csv", degrees=degrees).severity == "none"


def test_a_cap_is_reported_and_round_numbers_are_not(tmp_path):
    rng = np.random.default_rng(8)
    income = rng.lognormal(3, 0.6, 1000).round()
    finding = impossible(tmp_path / "capped.csv", income=np.minimum(income, 45))
    assert finding.severity == "low"
    assert finding.message.startswith(f"'income' is 45 in {int((income >= 45).sum())} rows: far more rows than")
    hours = np.where(rng.random(1000) < 0.7, rng.integers(1, 13, 1000) * 5, rng.integers(3, 60, 1000))
    assert impossible(tmp_path / "round.csv", hours=hours).severity == "none"


def test_a_column_of_huge_numbers_is_no_column_of_codes(tmp_path):
    assert impossible(tmp_path / "t.csv", x=np.random.default_rng(11).normal(size=400) * 1e30).severity == "none"


@pytest.mark.parametrize("draw", ["normal", "lognormal", "exponential", "uniform", "integers", "zeros"])
def test_usual_columns_have_no_impossible_values(tmp_path, draw):
    rng = np.random.default_rng(9)
    columns = {
        f"x{index}": {
            "normal": lambda: rng.normal(0, 100, 300).round(2),
            "lognormal": lambda: rng.lognormal(0, 1, 300).round(4),
            "exponential": lambda: rng.exponential(1000, 300).round(),
            "uniform": lambda: rng.uniform(-1, 1, 300).round(3),
            "integers": lambda: rng.integers(-5, 100, 300),
            "zeros": lambda: np.where(rng.random(300) < 0.8, 0, rng.gamma(2, 50, 300).round()),
        }[draw]()
        for index in range(8)
    }
    assert impossible(tmp_path / "t.csv", **columns).severity == "none"


@pytest.mark.parametrize(
    "source", ["digits", "sklearn:iris", "sklearn:wine", "sklearn:breast_cancer", "sklearn:diabetes"]
)
def test_sets_that_are_sound_are_quiet(source):
    assert {finding.severity for finding in found(opened(source)).values()} <= {"none", "low"}


def test_too_few_rows_cannot_be_far_from_each_other(tmp_path):
    finding = found(table(tmp_path / "t.csv", {"x": range(20), "y": ["a", "b"] * 10}))["outliers"]
    assert finding.severity == "unknown"
    assert "14 training rows are too few" in finding.message

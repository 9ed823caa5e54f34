import pathlib

import numpy as np
import pytest
from scipy import stats

from configs import defaults
from diagnostics.examples import open_examples
from diagnostics.material import Material
from diagnostics.quality import informative_missingness, missing_values


def opened(path, target="y", **fields):
    config = defaults.get_config().data
    config.source, config.target, config.test = f"csv:{path}", target, "20 percent"
    for name, value in fields.items():
        config[name] = value
    return open_examples(config, seed=0)


def write(path, columns):
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    pathlib.Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def gaps(values, mask):
    return ["" if gone else value for value, gone in zip(values, mask, strict=True)]


def found(examples):
    material = Material(config=defaults.get_config(), examples=examples)
    modules = (missing_values, informative_missingness)
    findings = {finding.name: finding for module in modules for finding in module.find(material)}
    assert list(findings) == ["missing_values", "informative_missingness"]
    return findings


def test_missing_values_are_counted_by_column_and_split_numbers_and_categories(tmp_path):
    rng = np.random.default_rng(0)
    number, colour = rng.random(400) < 0.1, rng.random(400) < 0.02
    columns = {
        "number": gaps(rng.normal(size=400).round(3), number),
        "colour": gaps(rng.choice(["red", "blue"], 400), colour),
        "whole": rng.normal(size=400).round(3),
        "y": ["no", "yes"] * 200,
    }
    examples = opened(write(tmp_path / "t.csv", columns))
    finding = found(examples)["missing_values"]
    masks = {"number": number, "colour": colour}
    (table, rows) = finding.evidence
    assert [row[0] for row in table.rows] == ["number", "colour"]
    for row in table.rows:
        for place, name in enumerate(("train", "validation", "test")):
            assert row[1 + 3 * place] == masks[row[0]][examples.splits[name].rows].sum()
    assert finding.severity == "medium"
    assert rows.total == (number | colour).sum()
    worst = examples.rows[rows.clusters[0][0]]
    assert number[worst]
    assert colour[worst]
    measure = next(each for each in finding.measures if each.name == "rows with missing values")
    expected = stats.binomtest(int((number | colour).sum()), 400).proportion_ci(method="wilson")
    np.testing.assert_allclose([measure.value, measure.low, measure.high], [(number | colour).mean(), *expected])
    assert f"{(number | colour).sum()} rows of 400" in finding.message


def test_a_column_that_is_mostly_missing_is_to_be_left_out(tmp_path):
    rng = np.random.default_rng(1)
    columns = {
        "empty": gaps(rng.normal(size=200).round(3), rng.random(200) < 0.8),
        "whole": rng.normal(size=200).round(3),
        "y": ["no", "yes"] * 100,
    }
    finding = found(opened(write(tmp_path / "t.csv", columns)))["missing_values"]
    assert "'empty': more than half is imputed" in finding.message
    assert finding.remedies[-1].overrides == {"data.ignore": ("empty",)}


def test_gaps_that_only_the_test_has_are_reported(tmp_path):
    rng = np.random.default_rng(2)
    train = {"x": rng.normal(size=100).round(3), "y": ["no", "yes"] * 50}
    test = {"x": gaps(rng.normal(size=100).round(3), np.arange(100) < 3), "y": ["no", "yes"] * 50}
    path = write(tmp_path / "test.csv", test)
    finding = found(opened(write(tmp_path / "train.csv", train), test=str(path)))["missing_values"]
    assert finding.severity == "medium"
    assert "'x': no gap in training" in finding.message


@pytest.mark.parametrize("classes", [2, 3])
def test_gaps_that_predict_a_class_are_found_and_others_are_not(tmp_path, classes):
    rng = np.random.default_rng(3)
    labels = rng.integers(classes, size=600)
    telling, idle = rng.random(600) < np.where(labels == 1, 0.5, 0.05), rng.random(600) < 0.2
    columns = {
        "telling": gaps(rng.normal(size=600).round(3), telling),
        "idle": gaps(rng.normal(size=600).round(3), idle),
        "y": [f"class {label}" for label in labels],
    }
    examples = opened(write(tmp_path / "t.csv", columns))
    finding = found(examples)["informative_missingness"]
    rows = examples.rows[examples.split != "test"]
    counts = [np.bincount(labels[rows][mask], minlength=classes) for mask in (telling[rows], ~telling[rows])]
    if classes == 2:
        p_value = stats.fisher_exact(counts).pvalue
    else:
        p_value = stats.chi2_contingency(counts).pvalue
    assert finding.severity in ("medium", "high")
    assert "the share of 'class 1'" in finding.message
    assert "'telling' is missing" in finding.message
    assert "in 2 columns" not in finding.message
    np.testing.assert_allclose(finding.measures[1].value, 2 * p_value, rtol=1e-6)
    difference = counts[0][1] / counts[0].sum() - counts[1][1] / counts[1].sum()
    np.testing.assert_allclose(finding.measures[0].value, difference)
    # Newcombe 1998, method 10, on SciPy's score intervals. With three classes, the one that differs most was chosen.
    level = 0.95 if classes == 2 else 1 - 0.05 / classes
    one, two = (stats.binomtest(int(row[1]), int(row.sum())).proportion_ci(level, "wilson") for row in counts)
    share, other = (row[1] / row.sum() for row in counts)
    low = difference - np.hypot(share - one.low, two.high - other)
    high = difference + np.hypot(one.high - share, other - two.low)
    np.testing.assert_allclose([finding.measures[0].low, finding.measures[0].high], [low, high], rtol=1e-9)


def test_gaps_that_predict_a_number_are_found_with_the_difference_of_means(tmp_path):
    rng = np.random.default_rng(4)
    gone = rng.random(500) < 0.3
    labels = rng.normal(size=500).round(4) + 2 * gone
    columns = {"x": gaps(rng.normal(size=500).round(3), gone), "y": labels}
    examples = opened(write(tmp_path / "t.csv", columns))
    finding = found(examples)["informative_missingness"]
    rows = examples.rows[examples.split != "test"]
    with_gap, without = (labels[rows][mask] for mask in (gone[rows], ~gone[rows]))
    interval = stats.ttest_ind(with_gap, without, equal_var=False).confidence_interval()
    np.testing.assert_allclose(finding.measures[0].value, with_gap.mean() - without.mean(), rtol=1e-5)
    np.testing.assert_allclose([finding.measures[0].low, finding.measures[0].high], interval, rtol=1e-5)
    assert finding.severity == "medium"


def test_gaps_at_random_are_quiet_in_nineteen_of_twenty_tables(tmp_path):
    """Five columns a table, 40 tables: without the correction about nine would be found."""
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        columns = {f"x{index}": gaps(rng.normal(size=200).round(3), rng.random(200) < 0.3) for index in range(5)}
        columns["y"] = rng.choice(["no", "yes"], 200)
        finding = found(opened(write(tmp_path / f"{seed}.csv", columns)))["informative_missingness"]
        alarms += finding.severity != "none"
    assert alarms <= 5


def test_rare_classes_are_tested_by_random_tables(tmp_path):
    rng = np.random.default_rng(5)
    labels = np.array([0] * 150 + [1] * 148 + [2] * 6)
    gone = rng.random(len(labels)) < 0.3
    columns = {"x": gaps(rng.normal(size=len(labels)).round(3), gone), "y": [f"c{label}" for label in labels]}
    examples = opened(write(tmp_path / "t.csv", columns))
    finding = found(examples)["informative_missingness"]
    rows = examples.rows[examples.split != "test"]
    counts = np.stack([np.bincount(labels[rows][mask], minlength=3) for mask in (gone[rows], ~gone[rows])])
    assert stats.contingency.expected_freq(counts).min() < 5
    exact = stats.fisher_exact(counts, method=stats.MonteCarloMethod(rng=np.random.default_rng(1))).pvalue
    assert finding.severity == "none"
    assert abs(finding.measures[0].value - exact) < 0.15


def test_a_table_without_gaps_and_images_have_nothing_missing():
    config = defaults.get_config().data
    for source, said in (("sklearn:iris", "No value is missing in 150 rows"), ("digits", "Nothing can be missing")):
        config.source = source
        findings = found(open_examples(config, seed=0))
        assert findings["missing_values"].message.startswith(said)
        assert {finding.severity for finding in findings.values()} == {"none"}


def test_too_few_gaps_cannot_be_judged(tmp_path):
    columns = {"x": ["", *range(99)], "y": ["no", "yes"] * 50}
    findings = found(opened(write(tmp_path / "t.csv", columns), test=str(_copy(tmp_path))))
    assert findings["informative_missingness"].severity == "unknown"
    assert "no column has two rows with the value missing" in findings["informative_missingness"].message


def _copy(tmp_path):
    return write(tmp_path / "test.csv", {"x": range(10), "y": ["no", "yes"] * 5})
